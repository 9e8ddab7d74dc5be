"""Command line: ``python -m penguin_model COMMAND``. Exit code 0 done, 1 failed, 2 wrong use."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import fetch, material, sources

MODELS = Path(__file__).resolve().parent.parent
RELEASED = MODELS / "penguin"


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _material(args) -> Path:
    return material.prepare(sources.load(), fetch.cache_folder(), args.build / "material", say=_say)


def _fetch(args) -> int:
    _material(args)
    return 0


def _make(args) -> int:
    from . import make

    return make.run(_material(args), args.build, args.out, RELEASED, args.allow_different, _say)


def _evaluate(args) -> int:
    from . import evaluate

    model = evaluate.Classifier(args.model)
    rows = []
    if args.positive:
        rows.append(evaluate.folder_row(model, args.positive, True, _say))
    if args.negative:
        rows.append(evaluate.folder_row(model, args.negative, False, _say))
    composed = []
    if not rows:
        prepared = _material(args)
        composed = evaluate.composed_rows(model, prepared, args.build, say=_say)
        rows = composed + evaluate.photo_rows(model, prepared)
    if args.json:
        for r in rows:
            print(json.dumps({"pictures": r.name, "penguin": r.penguin, "number": len(r.scores), "right": r.right}))
    else:
        print(evaluate.table(rows))
        if composed:
            print("\n" + evaluate.calibration(composed))
    return 0


def _compare(args) -> int:
    from . import evaluate, train

    train.prepare_tensorflow(train.Settings().seed)
    prepared = _material(args)
    print(evaluate.compare(evaluate.Classifier(args.model), args.build / "penguin.keras", prepared, args.build, _say))
    return 0


def _samples(args) -> int:
    from . import samples

    for path in samples.write(material.load(_material(args)), args.out):
        print(path)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m penguin_model", description="Makes and measures tuxwatch's penguin model."
    )
    parser.add_argument(
        "--build", type=Path, default=Path("build/model"), help="where intermediate files go (%(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True)

    c = commands.add_parser("fetch", help="download the material and take the pictures out of it")
    c.set_defaults(run=_fetch)

    c = commands.add_parser("make", help="train, export and compare with the released file")
    c.add_argument("--out", type=Path, default=Path("build/model/penguin"), help="the model's folder (%(default)s)")
    c.add_argument("--allow-different", action="store_true", help="succeed even if the file is not the released one")
    c.set_defaults(run=_make)

    c = commands.add_parser(
        "evaluate", help="print the table of what the model gets right on art held out from training"
    )
    c.add_argument("--model", type=Path, default=RELEASED, help="the model's folder (%(default)s)")
    c.add_argument("--positive", type=Path, help="measure on this folder of pictures with a penguin instead")
    c.add_argument("--negative", type=Path, help="measure on this folder of pictures without one instead")
    c.add_argument("--json", action="store_true", help="one JSON object a line")
    c.set_defaults(run=_evaluate)

    c = commands.add_parser("compare", help="compare the 8-bit file with the floating-point model that 'make' left")
    c.add_argument("--model", type=Path, default=RELEASED, help="the model's folder (%(default)s)")
    c.set_defaults(run=_compare)

    c = commands.add_parser("samples", help="make the sample pictures")
    c.add_argument("--out", type=Path, default=MODELS / "samples", help="the folder (%(default)s)")
    c.set_defaults(run=_samples)

    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (fetch.FetchError, material.MaterialError, OSError) as err:
        print(f"penguin_model {args.command}: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
