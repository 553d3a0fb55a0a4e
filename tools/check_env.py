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

    from mmact_tiny.doctor.diagnosis import find_problems, report
    from mmact_tiny.doctor.environment import environment

    env = environment()
    problems = find_problems(env)
    if args.json:
        listed = [problem._asdict() for problem in problems]
        print(json.dumps({"environment": env, "problems": listed}, indent=2))
    else:
        print(report(env, problems))
    return EXIT_ERROR if problems else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
