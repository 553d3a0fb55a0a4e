"""Write a report of a run, or of several side by side: one HTML page, and the data as JSON.

python tools/report.py                                the newest run
python tools/report.py work_dirs/tsn_tiny
python tools/report.py work_dirs/one work_dirs/other --out both.html     is the other better?

train.py and test.py write that of their own run when they are done.
"""

from collections.abc import Sequence
from pathlib import Path

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="default: the newest run")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help="default: report.html in the run's folder"
    )
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny.files import read_json
    from mmact_tiny.report.report import write_report

    page = write_report(args.runs, out=args.out)
    data = page.with_suffix(".json")
    for pair in (read_json(data)["comparison"] or {"pairs": []})["pairs"]:
        print("\n".join(pair["said"]))
    print(f"{page}\n{data}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
