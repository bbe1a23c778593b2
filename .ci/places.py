"""Fail on lines that name a home folder, the folder of this checkout, or the host of a package index.

The hosts are those that pip is configured with on this machine, and the public ones.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pip._internal.models.index import PyPI

configured = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s']+", configured)}
hosts = {host for host in hosts if host and "." in host} | {PyPI.netloc, PyPI.file_storage_domain}
folders = ["/home", "/root", "/Users", re.escape(str(Path.cwd()))]
pattern = f"{'|'.join(map(re.escape, sorted(hosts)))}|(^|[^[:alnum:]_.~/-])({'|'.join(folders)})/"
status = subprocess.run(["git", "grep", "-nIE", pattern, "--", "."]).returncode
sys.exit(0 if status == 1 else "these lines name a place of this machine or a package index")
