"""Take what notebooks wrote to stderr out of their stored outputs: warnings differ from machine to machine.

Run from the project's root: `python tools/drop_warnings.py`.
"""

import json
from pathlib import Path


def main() -> None:
    """Rewrite the notebooks that hold any."""
    for path in sorted(Path("nbs").glob("*.ipynb")):
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        kept = [[one for one in cell["outputs"] if one.get("name") != "stderr"] for cell in code]
        if all(len(one) == len(cell["outputs"]) for one, cell in zip(kept, code, strict=True)):
            continue
        for cell, outputs in zip(code, kept, strict=True):
            cell["outputs"] = outputs
        path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
