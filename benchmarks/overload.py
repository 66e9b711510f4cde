"""More requests than a server can answer: what it does with them."""

import asyncio
import time

import numpy as np

from benchmarks.server_process import free_port, running

FLOOD = 384  # connections, three times the server's queue


def overload(words, body, rate, seconds=15):
    """What is answered when requests come at a rate, whether or not earlier ones are done.

    Each goes over a connection that is kept, as of a proxy; where all of them wait for an answer,
    it is one that came too often for the client, and is only counted.
    """
    port = free_port()
    request = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
        f"boundary=photo\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    class Connection(asyncio.Protocol):
        """Sends a request and reads its answer, which is one line of head and one of length."""

        def connection_made(self, transport):
            self.transport, self.data, self.done = transport, b"", None

        def send(self):
            self.data, self.began = b"", time.perf_counter()
            self.done = asyncio.get_running_loop().create_future()
            self.transport.write(request)
            return self.done

        def data_received(self, data):
            self.data += data
            head, blank, rest = self.data.partition(b"\r\n\r\n")
            if blank:
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if len(rest) >= length and not self.done.done():
                    self.done.set_result(int(head.split()[1]))

        def connection_lost(self, error):
            if self.done and not self.done.done():
                self.done.set_result(0)

    async def flood(rate, seconds, connections):
        loop = asyncio.get_running_loop()
        free = [
            (await loop.create_connection(Connection, "127.0.0.1", port))[1]
            for _ in range(connections)
        ]
        results, tasks, busy = [], [], 0

        async def one(connection):
            try:
                status = await asyncio.wait_for(connection.send(), 60)
            except TimeoutError:
                status = 0
            results.append((status, time.perf_counter() - connection.began))
            if not connection.transport.is_closing():
                free.append(connection)

        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter() - began) < seconds:
            while sent < now * rate:
                sent += 1
                if free:
                    tasks.append(asyncio.create_task(one(free.pop())))
                else:
                    busy += 1
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
        return results, busy

    with running([*words, "--port", str(port)], port):
        time.sleep(2)
        asyncio.run(flood(20, 1, 4))
        used = time.process_time()
        results, busy = asyncio.run(flood(rate, seconds, FLOOD))
        used = time.process_time() - used
        after, _ = asyncio.run(flood(20, 2, 4))
        served = sorted(spent for status, spent in results if status == 200)
        refused = sorted(spent for status, spent in results if status == 503)
        return {
            "sent": len(results),
            "served": len(served),
            "refused": len(refused),
            "others": len(results) - len(served) - len(refused),
            "all_connections_busy": busy,
            "client_cpu_s": round(used, 1),
            "served_longest_s": round(served[-1], 2) if served else None,
            "refused_median_s": round(refused[len(refused) // 2], 3) if refused else None,
            "after_median_s": round(float(np.median([spent for _, spent in after])), 4),
            "after_served": sum(status == 200 for status, _ in after) / len(after),
        }
