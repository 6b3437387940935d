"""The page: a thin layer of Gradio over `Session`. On 127.0.0.1 only, without a share link, telemetry or anything that
is fetched from elsewhere."""

import importlib.util
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrl.model import Forced
from mrl.talk import pictures
from mrl.talk.speaker import Speaker
from mrl.talk.world import World
from pipeline.errors import InputError

POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
"""What a browser may load: what this server sends."""
TAB = """(_, ...rest) => {
  const known = sessionStorage.getItem("trlm-dialogue") || crypto.randomUUID();
  sessionStorage.setItem("trlm-dialogue", known);
  return [known, ...rest];
}"""
"""Puts a tab's own key, which is kept when the page is loaded again, in place of a handler's first input."""
DOWNLOAD = """() => { setTimeout(() => document.querySelector("#saved-file").click(), 300); }"""


def require_gradio() -> None:
    """Raise InputError, saying how to get it, where Gradio isn't installed; switch its telemetry off."""
    if importlib.util.find_spec("gradio") is None:
        remedy = "`uv run --group chat mrl/chat.py …` installs it; or talk in the terminal with --cli"
        raise InputError(f"the page needs Gradio: {remedy}")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


def build(speaker: Speaker, beginning: Forced, world: World | None, name: str, folder: Path) -> Any:
    """The page as Gradio Blocks. `folder` takes the files that are saved."""
    import gradio as gr

    from mrl.talk.handlers import Handlers

    do = Handlers(speaker, name, folder)
    with gr.Blocks(title=f"{name} and its memory", analytics_enabled=False, fill_width=True) as page:
        tab = gr.Textbox(visible=False)
        gr.Markdown(f"## {name} and its memory" + (f"\n{world.description}" if world else ""))
        with gr.Row():
            with gr.Column(scale=3):
                chat, word, typed, send = _dialogue(gr, world)
                with gr.Row():
                    again = gr.Button("Same question, memory reset", size="sm")
                    undo = gr.Button("Undo last turn", size="sm")
                    new = gr.Button("New dialogue", size="sm")
                compared = gr.HTML(elem_id="compared")
                with gr.Row():
                    keep = gr.Button("Save", size="sm", min_width=80)
                    saved = gr.DownloadButton("saved", visible="hidden", elem_id="saved-file")
                    open_saved = gr.UploadButton("Load", size="sm", min_width=80, elem_id="load")
                    open_rows = gr.UploadButton("Load row of JSONL", size="sm", elem_id="load-rows")
                    row = gr.Number(1, show_label=False, precision=0, minimum=1, min_width=70, container=False)
            with gr.Column(scale=2):
                turn = gr.Dropdown([], label="Turn to look at", interactive=False, elem_id="turn")
                out = gr.Button("Take this turn out of the past", size="sm")
                memory = gr.HTML(elem_id="memory")
                begin = gr.Radio(
                    ["answer", "think", "auto"], value=beginning, label="Replies begin with",
                    info="auto: what the model finds likelier",
                )  # fmt: skip
        shown = [chat, word, compared, turn, memory]
        # Tabs take turns with the model.
        one: dict[str, Any] = {
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "api_visibility": "private",
            "js": TAB,
        }
        page.load(do.show, [tab], shown, **one)
        gr.on([typed.submit, send.click], do.ask, [tab, typed, begin], [typed, *shown], **one)
        again.click(do.reset, [tab], shown, **one)
        undo.click(do.undo, [tab], shown, **one)
        out.click(do.remove, [tab, turn], shown, **one)
        gr.on([new.click, chat.clear], do.renew, [tab], shown, **one)
        turn.input(do.look, [tab, turn], [memory], **one)
        keep.click(do.save, [tab], [saved, word], **one).then(None, js=DOWNLOAD)
        open_saved.upload(do.load, [tab, open_saved], shown, **one)
        open_rows.upload(do.dialogue, [tab, open_rows, row], shown, **one)
    return page


def _dialogue(gr: Any, world: World | None) -> tuple[Any, Any, Any, Any]:
    """The chat, the page's word, what is typed and the button that sends it."""
    chat = gr.Chatbot(
        height=430, show_label=False, render_markdown=False, feedback_options=None, buttons=[], elem_id="dialogue",
        placeholder="Tell it something, talk about other things, ask for it.",
    )  # fmt: skip
    word = gr.HTML(elem_id="word")
    with gr.Row():
        typed = gr.Textbox(show_label=False, placeholder="Type a message", scale=6, elem_id="typed", max_lines=4)
        send = gr.Button("Send", variant="primary", scale=1, min_width=80)
    if world:
        gr.Examples([[e] for e in world.examples], inputs=[typed], label="Said in its world: click, then send")
    return chat, word, typed, send


class OwnThingsOnly:
    """ASGI: every answer tells the browser to load nothing from elsewhere."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, sending)


@contextmanager
def opened(
    speaker: Speaker, beginning: Forced, world: World | None, name: str, port: int | None = None
) -> Generator[tuple[Any, str]]:
    """The page while it is served: the Blocks and their address. Raises InputError where the port is taken."""
    require_gradio()
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    with tempfile.TemporaryDirectory(prefix="trlm-chat-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # what is uploaded and saved goes with the server
        page = build(speaker, beginning, world, name, Path(folder))
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])
        try:
            _, address, _ = page.launch(
                server_name="127.0.0.1", server_port=port, share=False, quiet=True, prevent_thread_lock=True,
                allowed_paths=[], run_history=False, mcp_server=False, ssr_mode=False, enable_monitoring=False,
                pwa=False, footer_links=[], max_file_size="256mb", css=pictures.CSS, theme=theme,
                app_kwargs={"middleware": [Middleware(OwnThingsOnly), hosts]},
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"--port: {str(error).splitlines()[0]}") from None
        try:
            yield page, address
        finally:
            page.close(verbose=False)


def serve(speaker: Speaker, beginning: Forced, world: World | None, name: str, port: int | None = None) -> None:
    """Serve the page until Ctrl-C."""
    with opened(speaker, beginning, world, name, port) as (page, address):
        print(f"{address} (Ctrl-C ends it)", flush=True)
        page.block_thread()
