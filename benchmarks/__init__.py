"""One script a claim; run by hand, recorded in docs/benchmarks.md."""
