# ctest: label=api timeout=120 not-under=memcheck,address,thread (shares of the time of one core are compared)
"""A thousand busy connections share the workers evenly.

Each sends its next request when it has the answer. Within the time measured the slowest connection gets
at least half as many requests as the median one. A server by hand on epoll is measured for comparison.
"""

from load import PATIENCE, EpollServer, Server, check, cpu_seconds, main, run_client, scaled

CONNECTIONS = 1000
DURATION_MS = 3000
ROUNDS = 3


def measure(server):
    before = cpu_seconds(server.pid)
    result = run_client(server.port, "--connections", scaled(CONNECTIONS), "--busy", "--duration",
                        DURATION_MS * PATIENCE, "--bytes-max", 64, "--report", "latency")
    result["cpu_us"] = (cpu_seconds(server.pid) - before) * 1e6 / max(1, result["count"])
    return result


def show(name, result):
    median = max(1, result["median_requests"])
    print(f"  {name:28} requests min {result['min_requests']} median {median} max"
          f" {result['max_requests']}: min/median {result['min_requests'] / median:.2f};"
          f" {result['count'] / result['seconds']:.0f}/s, p50 {result['p50_us']} us,"
          f" p99 {result['p99_us']} us, max {result['max_us']} us,"
          f" server {result['cpu_us']:.1f} us of CPU each")


def is_even(options, part):
    with Server(options) as server:
        result = measure(server)
    show(options, result)
    check(result["ok"] == scaled(CONNECTIONS), "not all were served")
    return (result["median_requests"] >= 20  # fewer say nothing
            and result["min_requests"] >= part * result["median_requests"])


def serves_evenly(options, part=1 / 2):
    with EpollServer() as server:
        by_hand = measure(server)
    show("epoll by hand", by_hand)
    # What else the machine does hits some connections, or a worker, and not the others.
    check(any(is_even(options, part) for _ in range(ROUNDS)), "some are served far less")


def test_one_worker():
    serves_evenly("flavor=mt workers=1")


def test_one_worker_read_and_write_all():
    serves_evenly("flavor=mt workers=1 body=loop")


def test_current_thread():
    serves_evenly("flavor=ct")


def test_two_workers():
    """Two workers have two queues, and the client, which needs a core too, takes one from either."""
    serves_evenly("flavor=mt workers=2", part=1 / 3)


main()
