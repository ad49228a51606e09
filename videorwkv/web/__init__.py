"""A trained run as a page for a browser, and a server for this machine alone.

`site.py` writes the folder that any static host serves; `runtime.py` fetches ONNX Runtime for the
browser, which it needs; `server.py` serves a folder on the loopback; `page/` is what the browser is
given, plain JavaScript without a build step. `teach.py` serves a page that records clips, trains on
them and tries the model.
"""

from __future__ import annotations

from videorwkv.web.server import Server as Server
from videorwkv.web.site import Site as Site
from videorwkv.web.site import export_site as export_site
from videorwkv.web.teach import TeachServer as TeachServer
from videorwkv.web.trainings import TrainingOptions as TrainingOptions
