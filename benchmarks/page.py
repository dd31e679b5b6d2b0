"""Measures the latency of `examples/playground.py` for many people at once.

    python examples/playground.py --port 7860 &
    python -m benchmarks.page --url http://127.0.0.1:7860 --people 20

People draw without a pause between two strokes. The latency of a stroke is the time
until the page has received all outputs.
"""

import argparse
import json
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def ask(url: str, body: dict | None = None):
    """Sends a request and returns the open response."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return urllib.request.urlopen(urllib.request.Request(url, data, headers))


def draw(url: str, function: int, session: str) -> list:
    """Draws a stroke and returns the outputs of the page."""
    stroke = np.column_stack(
        [np.random.uniform(0.4, 0.6, 20), np.linspace(0.1, 0.9, 20)]
    )
    body = {"fn_index": function, "session_hash": session, "data": [[stroke.tolist()]]}
    ask(f"{url}/gradio_api/queue/join", body).close()
    with ask(f"{url}/gradio_api/queue/data?session_hash={session}") as events:
        for line in events:
            event = json.loads(line[5:]) if line.startswith(b"data:") else {}
            if event.get("msg") == "process_completed":
                if not event["success"]:
                    raise ValueError(f"The page refused a stroke: {event['output']}")
                return event["output"]["data"]
    raise ValueError("The page ended without an answer")


def waits(url: str, people: int, strokes: int) -> list[float]:
    """Returns the latency of each stroke in seconds.

    Args:
        url: URL of the page.
        people: number of people who draw at the same time.
        strokes: number of strokes of each person.
    """
    with ask(f"{url}/config") as answer:
        events = json.load(answer)["dependencies"]
    function = next(event["id"] for event in events if event["api_name"] == "sketched")

    def person(_):
        session, seconds = uuid.uuid4().hex, []
        for _ in range(strokes):
            start = time.perf_counter()
            draw(url, function, session)
            seconds.append(time.perf_counter() - start)
        return seconds

    with ThreadPoolExecutor(people) as pool:
        return [
            second for seconds in pool.map(person, range(people)) for second in seconds
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--strokes", type=int, default=4, help="strokes of each person")
    args = parser.parse_args()
    found = waits(args.url, args.people, args.strokes)
    print(f"median {np.median(found):.2f} s, 95 % {np.quantile(found, 0.95):.2f} s")
