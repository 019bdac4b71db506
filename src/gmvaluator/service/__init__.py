"""Indexes and runs go in; a REST service that says who contributed to a picture comes out.

`server`: from a command to a listening process. `app`: the addresses of the API and what they
answer. `answers`: the shapes of the answers, with examples. `problems`: every error answer.
`guard`: what each request must pass before an address sees it. `limits`: the numbers of the guard.
`uploads`: pictures of a request. `models`: the indexes and runs that are served. `matching`:
pictures of many requests, matched together. `jobs`: valuations that outlive a restart; `worker`:
the thread that computes them. `metrics`: counts for Prometheus. `client`: the service from Python.
Nothing is imported here: `gmvaluator.Client` needs nothing of the extra `serve`.
"""
