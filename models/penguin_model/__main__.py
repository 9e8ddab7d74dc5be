"""Command line: ``python -m penguin_model COMMAND``. Exit code 0 done, 1 failed, 2 wrong use."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import fetch, material, page, savedmodel, sources

MODELS = Path(__file__).resolve().parent.parent
RELEASED = MODELS / "penguin"
HELD_OUT = MODELS / "weights" / "held-out.json"


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _material(args) -> Path:
    return material.prepare(sources.load(), fetch.cache_folder(), args.build / "material", say=_say)


def _fetch(args) -> int:
    _material(args)
    return 0


def _make(args) -> int:
    from . import make

    done = make.run(_material(args), args.build, args.out, RELEASED, args.allow_different or args.release, _say)
    if args.release:
        make.release(args.out, args.build, MODELS)
        _say(f"released: {RELEASED}, {MODELS / 'weights'}")
    return done


def _evaluate(args) -> int:
    from . import evaluate

    model = evaluate.Classifier(args.model)
    own = []
    if args.positive:
        own.append(evaluate.folder_row(model, args.positive, True, _say))
    if args.negative:
        own.append(evaluate.folder_row(model, args.negative, False, _say))
    composed, photographs = [], []
    if args.everything or not own:
        prepared = _material(args)
        composed = evaluate.composed_rows(model, prepared, args.build, say=_say)
        photographs = evaluate.photo_rows(model, prepared)
    rows = composed + photographs + own
    if args.json:
        for r in rows:
            print(json.dumps({"pictures": r.name, "penguin": r.penguin, "number": len(r.scores), "right": r.right}))
    else:
        print(evaluate.table(rows))
    if composed and not args.json:
        _print_rest(args, composed, photographs, own)
    if args.html:
        page.write(rows, args.model, args.build / "evaluate-pictures", args.html)
        _say(f"{args.html}: confusion matrix, curves, calibration and the worst pictures")
    return 0


def _print_rest(args, composed: list, photographs: list, own: list) -> None:
    """What there is besides the rows: calibration, whole packages held out, the cost of 8 bits, the bars."""
    from . import evaluate, train

    print("\n" + evaluate.calibration(composed))
    folds, comparison = {}, None
    if args.model.resolve() == RELEASED:
        folds = evaluate.load_held_out(HELD_OUT)
        print("\nArt of one fold, by the model that was trained without it, as 'make' measured it:\n")
        print(evaluate.held_out_table(folds))
        train.prepare_tensorflow(train.Settings().seed)
        comparison = evaluate.compare(composed)
        print(f"\n{comparison}")
    size = (args.model / "model.tflite").stat().st_size
    print("\n" + evaluate.bars(composed + photographs, folds, comparison, own, size))


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
    c.add_argument("--release", action="store_true", help="put what was made into the places of the released files")
    c.set_defaults(run=_make)

    c = commands.add_parser(
        "evaluate", help="print the tables of what the model gets right on what it has not seen, and the bars"
    )
    c.add_argument("--model", type=Path, default=RELEASED, help="the model's folder (%(default)s)")
    c.add_argument("--positive", type=Path, help="measure on this folder of pictures with a penguin instead")
    c.add_argument("--negative", type=Path, help="measure on this folder of pictures without one instead")
    c.add_argument("--everything", action="store_true", help="with a folder: measure on all the rest as well")
    c.add_argument("--html", type=Path, help="write the performance page to this file (needs 'make build')")
    c.add_argument("--json", action="store_true", help="one JSON object a line")
    c.set_defaults(run=_evaluate)

    c = commands.add_parser("samples", help="make the sample pictures")
    c.add_argument("--out", type=Path, default=MODELS / "samples", help="the folder (%(default)s)")
    c.set_defaults(run=_samples)

    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (fetch.FetchError, material.MaterialError, savedmodel.WeightsError, page.PageError, OSError) as err:
        print(f"penguin_model {args.command}: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
