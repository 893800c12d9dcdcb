"""What can a service be asked, as a page that needs no network?"""

from __future__ import annotations

import html
import json
from typing import Any


def docs_page(description: dict[str, Any]) -> str:
    """Return a page that shows the description and can send a request; it loads nothing else."""
    info = description["info"]
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td></tr>"
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    row = description["components"]["schemas"]["Row"]
    columns = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f"<td>{html.escape(schema['description'])}</td>"
        f"<td>{'required' if name in row['required'] else 'optional'}</td></tr>"
        for name, schema in row["properties"].items()
    )
    example = json.dumps({"dataframe_records": [row["example"]]}, indent=1, ensure_ascii=False)
    return _PAGE.format(
        title=html.escape(f"{info['title']} {info['version']}"),
        what=html.escape(info["description"]),
        rows=rows,
        columns=columns,
        example=html.escape(example),
    )


_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
 padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ddd; padding: .3rem .6rem .3rem 0; vertical-align: top }}
textarea, pre {{ width: 100%; box-sizing: border-box; font: 14px/1.4 ui-monospace, monospace }}
pre {{ background: #f4f4f4; padding: .6rem; overflow: auto }}
</style></head><body>
<h1>{title}</h1><p>{what} <a href="openapi.json">OpenAPI description</a></p>
<h2>Columns</h2><table>{columns}</table>
<h2>Try it</h2>
<form><textarea rows="12" aria-label="request">{example}</textarea>
<p><label>API key <input type="password" autocomplete="off"></label>
<button>Send to /invocations</button></p></form><pre aria-live="polite"></pre>
<h2>Paths</h2><table>{rows}</table>
<script>
document.querySelector("form").addEventListener("submit", async event => {{
  event.preventDefault();
  const headers = {{"Content-Type": "application/json"}};
  const key = document.querySelector("input").value;
  if (key) headers["Authorization"] = "Bearer " + key;
  const body = document.querySelector("textarea").value;
  const answer = await fetch("invocations", {{method: "POST", headers, body}});
  document.querySelector("pre").textContent = answer.status + "\\n" + await answer.text();
}});
</script></body></html>
"""
