"""The checks of a program: each is run once and prints `ok NAME` or `not ok NAME: why`."""

import asyncio
import os
import traceback

import nats

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


async def connect(where="NATS_URL", **options):
    options.setdefault("connect_timeout", 5)
    return await nats.connect(os.environ[where], **options)


async def run_all():
    failed = 0
    for function in CHECKS:
        try:
            await asyncio.wait_for(function(), 30)
            print(f"ok {function.__name__}", flush=True)
        except Exception as error:  # every failure is a result of the program
            failed += 1
            traceback.print_exc()
            print(f"not ok {function.__name__}: {error!r}", flush=True)
    return 1 if failed else 0


def main():
    return asyncio.run(run_all())
