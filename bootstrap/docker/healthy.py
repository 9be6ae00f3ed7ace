"""A container's health check: asks the program that runs here whether it serves. Exit status 0 if it does.

python healthy.py ENV_SERVER | ENV_PSERVER
"""

import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

from dotenv import dotenv_values

SECONDS = 3.0


def tracker_is_healthy(port: str, tls: bool) -> bool:
    """Whether GET /healthz answers 200. Over TLS nobody's certificate is checked: this asks its own machine."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/healthz"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def pserver_is_healthy(port: str, certificate: Path | None) -> bool:
    """Whether grpc.health.v1 says SERVING."""
    import grpc  # noqa: PLC0415 - the tracker's image has no gRPC
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    target = f"127.0.0.1:{port}"
    options = [("grpc.enable_http_proxy", 0)]
    if certificate is None:
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate.read_bytes()), options)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: list[str]) -> int:
    """Check the program of the env file; return the exit status."""
    [path] = map(Path, arguments)
    env = dotenv_values(path, interpolate=False)
    certificate = env.get("TLS_CERT")
    pserver_port = env.get("PSERVER_PORT")
    if pserver_port:
        return 0 if pserver_is_healthy(pserver_port, path.parent / certificate if certificate else None) else 1
    return 0 if tracker_is_healthy(env["SERVER_PORT"] or "", bool(certificate)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
