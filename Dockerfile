# Serves an exported model over HTTP; neither TensorFlow nor what trains is in it.
#
#     docker build -t image-classifier .
#
# docs/deployment.md says how to run it.
FROM python:3.13-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

WORKDIR /app

# Before the code: they are installed again only when they change.
COPY requirements-serve.txt constraints.txt ./
RUN pip install --no-cache-dir --root-user-action=ignore -r requirements-serve.txt

COPY *.py ./
COPY deployment deployment

# By number, so that Kubernetes sees that it is not root; the mounted model and token have to be
# readable for it.
USER 10001:10001

EXPOSE 5001

# The slim image has no curl. No urllib: it would ask a proxy of the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client; connection = http.client.HTTPConnection('127.0.0.1', 5001, timeout=4); connection.request('GET', '/readyz'); raise SystemExit(connection.getresponse().status != 200)"]

# In exec form, so that SIGTERM and SIGHUP reach the server and no shell.
ENTRYPOINT ["python", "deployment/server.py", "--model", "/model", "--host", "0.0.0.0"]

# Without a mounted token it refuses to start; `docker run ... image-classifier --no_auth` takes
# the place of this line.
CMD ["--token_file", "/run/secrets/token"]
