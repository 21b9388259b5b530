"""The policy on FastAPI: what one writes first."""

from typing import Any

from fastapi import Body, FastAPI

from policy import PARAMETERS, load

RULE = load()
app = FastAPI()


@app.post("/")
async def call(body: dict[str, Any] = Body()):
    return {"success": True, "data": RULE.eval(PARAMETERS, body, {})}
