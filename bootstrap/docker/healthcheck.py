"""Health check of a container: exits with 0 if the program that the env file configures responds.

python healthcheck.py ENV_SERVER | ENV_PSERVER
"""

import ssl
import sys
import urllib.request
from pathlib import Path

from dotenv import dotenv_values

TIMEOUT = 3.0  # seconds; Docker allows five


def dial_address(listening: str, port: str) -> str:
    """Return the host:port at which to dial a program that listens on this address."""
    host = listening.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tracker_is_healthy(address: str, tls: bool) -> bool:
    """Return whether GET /healthz responds with 200. Checks no certificate, since it dials its own machine."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    url = f"{'https' if tls else 'http'}://{address}/healthz"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    try:
        with opener.open(url, timeout=TIMEOUT) as response:
            return bool(response.status == 200)
    except OSError:  # URLError, and what urllib passes on: timeout, connection reset
        return False


def pserver_is_healthy(address: str, certificate: Path | None) -> bool:
    """Return whether grpc.health.v1 reports SERVING."""
    import grpc  # noqa: PLC0415 - the tracker's image has no gRPC
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    options = [("grpc.enable_http_proxy", 0)]
    if certificate is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate.read_bytes()), options)
    with channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: list[str]) -> int:
    """Check the program of an env file; return the exit status."""
    [path] = map(Path, arguments)
    env = {key: value or "" for key, value in dotenv_values(path, interpolate=False).items()}
    certificate = path.parent / env["TLS_CERT"] if env.get("TLS_CERT") else None
    if "PSERVER_PORT" in env:
        address = dial_address(env["PSERVER_LOCAL_URL"], env["PSERVER_PORT"])
        healthy = pserver_is_healthy(address, certificate)
    else:
        address = dial_address(env["SERVER_URL"], env["SERVER_PORT"])
        healthy = tracker_is_healthy(address, certificate is not None)
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
