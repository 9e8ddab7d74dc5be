"""The benchmark's peer for pictures: Pillow and the LiteRT interpreter.

    vision.py prepare FROM TO       pictures of 1280 x 720 from those in a folder
    vision.py serve MODEL LABELS THREADS FILTER PICTURE...

serve loads the model and then answers each line of its standard input, "full N"
or "reduced N", with a line of JSON: the seconds of processor time that N pictures
took, and for each the seconds that decoding, resizing and invoking took, and the
probabilities. "reduced" lets libjpeg decode to a fraction of the size (Pillow's
draft mode).
"""

import io
import json
import sys
import time
from pathlib import Path

from PIL import Image

SIZE = (1280, 720)


def prepare(source: Path, target: Path) -> None:
    """Writes the pictures of a folder as JPEG files of 1280 x 720.

    A JPEG file of that size is taken as it is. Others lose what does not fit
    the proportions and are written with quality 90 and halved color, as cameras do.
    """
    target.mkdir(parents=True, exist_ok=True)
    pictures = (p for p in sorted(source.rglob("*")) if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for number, path in enumerate(pictures):
        data = path.read_bytes()
        out = target / f"{number:02d}-{path.stem}.jpg"
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "JPEG" and image.size == SIZE:
                out.write_bytes(data)
                continue
            picture = image.convert("RGB")
            width, height = picture.size
            scale = max(SIZE[0] / width, SIZE[1] / height)
            across, down = SIZE[0] / scale, SIZE[1] / scale
            left, top = (width - across) / 2, (height - down) / 2
            picture = picture.resize(SIZE, Image.Resampling.BICUBIC, box=(left, top, left + across, top + down))
            picture.save(out, quality=90, subsampling="4:2:0")


def serve(model: str, labels: str, threads: int, filter_name: str, pictures: list[str]) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    (model_input,) = interpreter.get_input_details()
    if model_input["dtype"] != np.uint8:
        sys.exit(f"{model}: its input is {model_input['dtype']}, and the benchmark is written for uint8")
    classes = len(Path(labels).read_text(encoding="utf-8").splitlines())
    output = next(o for o in interpreter.get_output_details() if o["shape"][-1] == classes)
    height, width = model_input["shape"][1:3]
    resample = Image.Resampling[filter_name.upper()]
    files = [Path(p).read_bytes() for p in pictures]

    def classify(file: bytes, reduced: bool) -> dict:
        start = time.perf_counter()
        image = Image.open(io.BytesIO(file))
        if reduced:
            image.draft("RGB", (width * 3 // 2, height * 3 // 2))
        image = image.convert("RGB")
        decoded = time.perf_counter()
        tensor = np.asarray(image.resize((width, height), resample))[None]
        resized = time.perf_counter()
        interpreter.set_tensor(model_input["index"], tensor)
        interpreter.invoke()
        scale, zero = output["quantization"]
        raw = interpreter.get_tensor(output["index"])[0]
        probabilities = (raw.astype(np.float32) - zero) * scale if scale else raw
        end = time.perf_counter()
        return {
            "decode": decoded - start,
            "resize": resized - decoded,
            "invoke": end - resized,
            "probabilities": [float(p) for p in probabilities],
        }

    print("ready", flush=True)
    for line in sys.stdin:
        how, count = line.split()
        busy = time.process_time()
        looks = [classify(files[i % len(files)], how == "reduced") for i in range(int(count))]
        busy = time.process_time() - busy
        print(json.dumps({"looks": looks, "cpu": busy}), flush=True)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "prepare":
        prepare(Path(arguments[0]), Path(arguments[1]))
    else:
        serve(arguments[0], arguments[1], int(arguments[2]), arguments[3], arguments[4:])
