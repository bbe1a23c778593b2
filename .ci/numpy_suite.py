"""Write numpy.conf.json: the settings of the asv suite in this folder, for the NumPy backend alone."""

import json
from pathlib import Path

from asv.util import load_json

settings = load_json("asv.conf.json", js_comments=True)
settings["matrix"]["env_nobuild"]["IM2COLNET_BACKEND"] = ["numpy"]
Path("numpy.conf.json").write_text(json.dumps(settings))
