"""A Ray Serve application that runs the binary: each replica is one `hearth serve`, Ray places replicas on GPUs, routes and scales.

  pip install 'ray[serve]' httpx
  HEARTH_MODEL=/models/mixtral HEARTH_FLAGS='--quantization fp8' serve run deploy.ray_serve:app

A replica that dies is started again by Ray; one that ends drains. Settings are HEARTH_* in the environment, below."""
import asyncio
import os
import shlex
import socket
import subprocess

import httpx
from ray import serve
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

BINARY = os.environ.get("HEARTH_BINARY", "hearth")
MODEL = os.environ.get("HEARTH_MODEL", "")
FLAGS = shlex.split(os.environ.get("HEARTH_FLAGS", ""))
GPUS = float(os.environ.get("HEARTH_GPUS", "1"))  # of a replica
CPUS = float(os.environ.get("HEARTH_CPUS", "4"))
LEAST = int(os.environ.get("HEARTH_MIN_REPLICAS", "1"))
MOST = int(os.environ.get("HEARTH_MAX_REPLICAS", "8"))
# Requests a replica should have in work: more start another one. What a GPU computes at once is a good value.
WANTED = float(os.environ.get("HEARTH_TARGET_REQUESTS", "128"))

# Of the connection, not of the message.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


def end_to_end(headers):
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}


@serve.deployment(
    ray_actor_options={"num_cpus": CPUS, "num_gpus": GPUS},
    max_ongoing_requests=4096,  # the server has a queue of its own
    autoscaling_config={"min_replicas": LEAST, "max_replicas": MOST, "target_ongoing_requests": WANTED},
    health_check_period_s=2,
    graceful_shutdown_timeout_s=60,
)
class Hearth:
    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.process = subprocess.Popen([BINARY, "serve", MODEL, "--port", str(port), *FLAGS])
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None,
                                        limits=httpx.Limits(max_connections=None))
        self.ready = asyncio.Event()

    async def wait(self):
        while not self.ready.is_set():
            if self.process.poll() is not None:
                raise RuntimeError(f"hearth ended with {self.process.returncode}")
            try:
                if (await self.client.get("/v2/health/ready")).status_code == 200:
                    self.ready.set()
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)

    async def check_health(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"hearth ended with {self.process.returncode}")

    async def __call__(self, request: Request) -> Response:
        await self.wait()
        path = request.url.path + ("?" + request.url.query if request.url.query else "")
        asked = self.client.build_request(request.method, path, headers=end_to_end(request.headers),
                                          content=await request.body())
        try:
            answer = await self.client.send(asked, stream=True)
        except httpx.TransportError:
            return Response('{"error": {"message": "the replica is gone", "type": "service_unavailable"}}', 503,
                            {"Retry-After": "1"}, "application/json")

        async def body():
            try:
                async for part in answer.aiter_raw():
                    yield part
            finally:  # a client that leaves ends its request
                await answer.aclose()

        return StreamingResponse(body(), answer.status_code, end_to_end(answer.headers))

    def __del__(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


app = Hearth.bind()
