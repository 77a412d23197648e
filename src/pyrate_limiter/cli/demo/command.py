"""`demo`: serve the page until Ctrl-C."""

from __future__ import annotations

import click

from ..ending import finish


@click.command(short_help="See a limiter at work, on a live page.")
@click.option("--host", default="127.0.0.1", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="0: a free one.  [default: 8000, else 0]")
@click.option("--open", "opens", is_flag=True, help="Open the page in your browser.")
def demo(host: str, port: int | None, opens: bool) -> None:
    """Serve a page that shows a limiter at work, until Ctrl-C.

    Move the rate, the burst and the algorithm, fire requests, and see which are admitted, which wait and which are
    refused. A real limiter decides about them; all visitors share it. It needs the extra 'demo'.
    """
    try:
        from .serving import listen, serve  # noqa: PLC0415 - so that whoever lacks the extra is told
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        raise click.ClickException(
            "the page needs starlette and uvicorn: pip install 'pyrate-limiter-anyio[demo]'"
        ) from error
    try:
        listener = listen(host, port)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}: {error}; give another --port, or none for a free one"
        ) from error
    finish(serve(listener, opens=opens))
