"""Check the environment: what is installed, what works, what is wrong and the fix.

python tools/check_env.py
python tools/check_env.py --json

Exit status 0 if all is well, 2 if something is broken.
"""

import json
from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="print both as JSON")
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny.doctor.diagnosis import diagnose

    diagnosis = diagnose()
    if args.json:
        problems = [{"what": what, "fix": fix} for what, fix in diagnosis.problems]
        print(json.dumps({"environment": diagnosis.found, "problems": problems}, indent=2))
    else:
        print(diagnosis)
    return EXIT_ERROR if diagnosis.problems else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
