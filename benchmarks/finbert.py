"""Scoring sentences with a classifier of BERT-base shape and random weights: float32, int8 and PyTorch's pipeline.

Each engine is a process of its own and scores the same sentences of real news and posts; the pipeline also gets the
texts whole, cut at 256 tokens, as those use it who do not split them. Engines take turns, and the best of the rounds
counts: on a shared machine tokens per CPU-second are the figure to compare. The first run makes the model, which
needs PyTorch: pip install 'backsight-ingest[torch]'.

Usage: python benchmarks/finbert.py [--texts 2000] [--rounds 2] [--model FOLDER] [--data FOLDER] [--device]
"""

import argparse
import csv
import gzip
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from backsight_features.errors import BadInput
from backsight_features.texts import normalise
from backsight_ingest.scoring.classifier import MOST_TOKENS, OnnxClassifier, batches
from backsight_ingest.scoring.precision import check_neighbours, check_parity
from backsight_ingest.scoring.preparation import sentences

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
MODEL = HERE.parent / ".backsight" / "bench" / "bert-base"
THREADS = len(os.sched_getaffinity(0))
HAS_TORCH = importlib.util.find_spec("torch") is not None
NEWS = "news/bitcoin_sentiments_21_24.csv.gz"
POSTS = "reddit/anatosun_bitcoin_posts_first_seen.jsonl.gz"
BATCHES = "news/mouadja02_batches/batches_2025-05-04_2025-05-19.tar.xz"
LABELS = ("positive", "negative", "neutral")
PIPELINED = 400
"""Sentences or texts that the pipelines get, drawn at random: of all they would take most of the time."""
WHOLE_TOKENS = 256
"""Where whole texts are cut."""

SHAPES = ((768, 768), (768, 3072), (3072, 768))
TOKENS = 1024
ENGINES = ("fp32", "int8", "pipeline-1", "pipeline-32", "whole-1", "whole-32")
"""Pipelines by the size of their batches, of sentences or of whole texts."""


def real_texts(data: Path, texts: int) -> pl.Series:
    """Return so many texts, half news and half posts, as they are split into sentences."""
    for name in (NEWS, POSTS, BATCHES):
        if not (data / name).is_file():
            sys.exit(f"skipped: {data / name} is not there; --data names the folder with {NEWS}, {POSTS} and {BATCHES}")
    with gzip.open(data / NEWS, "rt", encoding="utf-8", errors="replace") as file:
        news = [row["Short Description"] for row in csv.DictReader(file)]
    with gzip.open(data / POSTS, "rt", encoding="utf-8") as file:
        posts = [text for row in map(json.loads, file) for text in (row["title"], row["selftext"]) if text]
    rng = np.random.default_rng(0)
    drawn = [part[i] for part in (news, posts) for i in rng.permutation(len(part))[: texts // 2]]
    return pl.DataFrame({"text": drawn}).select(normalise(pl.col("text"))).to_series().drop_nulls()


def split(texts: pl.Series) -> list[str]:
    """Return the sentences of texts, as a scorer gets them."""
    return sentences(texts)["sentence"].to_list()


def make_model(folder: Path, said: list[str]) -> None:
    """Write tokenizer, configuration and weights, and export them; the head spreads the verdicts as a trained one."""
    if not HAS_TORCH:
        sys.exit("skipped: making the model needs PyTorch; pip install 'backsight-ingest[torch]', or give --model")
    import torch
    from backsight_ingest.scoring.export import exported
    from backsight_ingest.scoring.hub import local
    from safetensors.torch import save_file
    from tokenizers import BertWordPieceTokenizer
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    words = BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(said, vocab_size=30_522, min_frequency=1, show_progress=False)
    words.save_model(str(folder))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    labels = dict(enumerate(LABELS))
    config = BertConfig(id2label=labels, label2id={name: i for i, name in labels.items()})
    config.save_pretrained(str(folder))
    model = BertForSequenceClassification(config).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    with torch.inference_mode():
        pooled = torch.cat(
            [
                model.bert(
                    **tokenizer(said[i : i + 16], padding=True, truncation=True, max_length=64, return_tensors="pt")
                ).pooler_output
                for i in range(0, min(len(said), 320), 16)
            ]
        )
        middle = pooled.mean(dim=0)
        _, spread, axes = torch.linalg.svd(pooled - middle, full_matrices=False)
        head = axes[:3] / spread[:3, None] * 2.0 * len(pooled) ** 0.5
        model.classifier.weight.copy_(head)
        model.classifier.bias.copy_(-head @ middle)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    made = exported(local(folder), cache=folder / "made")
    made.replace(folder / "model.onnx")


def opened(folder: Path, model: Path) -> OnnxClassifier:
    return OnnxClassifier(name="bench", revision="random", model=model, tokenizer=folder, outputs=(0, 1, 2))


def pipeline(folder: Path, size: int, longest: int) -> Callable[[list[str]], Any]:
    """Return transformers' pipeline, as its users run it."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification
    from transformers import pipeline as make

    torch.set_num_threads(THREADS)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = BertForSequenceClassification(AutoConfig.from_pretrained(str(folder))).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    run = make("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")
    return lambda said: run(said, batch_size=size, truncation=True, max_length=longest)


def engine(name: str, folder: Path) -> Callable[[list[str]], Any]:
    if name == "fp32":
        return opened(folder, folder / "model.onnx").score
    if name == "int8":
        return opened(folder, folder / "int8.onnx").score
    kind, size = name.split("-")
    return pipeline(folder, int(size), MOST_TOKENS if kind == "pipeline" else WHOLE_TOKENS)


def serve(name: str, folder: Path) -> None:
    """Score what is asked for on standard input, a line a round, and say what it took."""
    run = engine(name, folder)
    run(["Profit up."])
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        found = run(said)
        taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        taken["peak"] = peak_memory()
        taken["scores"] = found.tolist() if isinstance(found, np.ndarray) else list(map(by_label, found))
        print(json.dumps(taken), flush=True)


def peak_memory() -> float:
    """Return the most MiB that this process had; what getrusage says, it takes over from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def by_label(said: list[dict[str, Any]]) -> list[float]:
    """Return what a pipeline says of a sentence in the order of the labels."""
    scores = {each["label"]: each["score"] for each in said}
    return [scores[label] for label in LABELS]


def start(name: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--serve", name, "--model", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        sys.exit(f"{name} did not start; what it said is above")
    return process


def ask(process: "subprocess.Popen[str]", said: list[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(said) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit("an engine ended before it answered; what it said is above")
    return dict(json.loads(answer))


def peak_gemm() -> float:
    """Return the most float32 GFLOP per CPU-second of products of the model's shapes: NumPy, ONNX Runtime, PyTorch."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    best = 0.0
    for rows, columns in SHAPES:
        left, right = (rng.normal(size=s).astype(np.float32) for s in ((TOKENS, rows), (rows, columns)))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", TensorProto.FLOAT, [TOKENS, rows])],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, [TOKENS, columns])],
            [numpy_helper.from_array(right, "b")],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ways: list[Callable[[], Any]] = [partial(np.matmul, left, right), partial(session.run, None, {"a": left})]
        if HAS_TORCH:
            import torch

            torch.set_num_threads(THREADS)
            ways.append(partial(torch.matmul, torch.from_numpy(left), torch.from_numpy(right)))
        work = 2e-9 * TOKENS * rows * columns
        for way in ways:
            way()
            for _ in range(6):
                began = time.process_time()
                way()
                best = max(best, work / (time.process_time() - began))
    return best


def flop_per_token(folder: Path) -> float:
    """Return the floating-point operations of the products with weights of one token."""
    config = json.loads((folder / "config.json").read_text())
    width, wider = config["hidden_size"], config["intermediate_size"]
    return float(config["num_hidden_layers"] * 2 * (4 * width * width + 2 * width * wider))


def lengths(folder: Path, said: list[str], longest: int = MOST_TOKENS) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the tokens of each piece that the model reads, and the sentence it is of."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    cut = tokenizer(said, truncation=True, max_length=longest, return_overflowing_tokens=True)
    return np.array([len(ids) for ids in cut["input_ids"]]), np.array(cut["overflow_to_sample_mapping"])


def features() -> str:
    """Return the processor's name and what it has for whole numbers and bf16."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    name = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    flags = [f for f in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8") if f" {f}" in info]
    return f"{name or platform.machine()}, {THREADS} threads, {' '.join(flags) or 'no known features'}"


def compare(folder: Path, texts: pl.Series, rounds: int) -> None:
    """Print what each engine does with the sentences, or with the texts as they are."""
    said = split(texts)
    sizes, owners = lengths(folder, said)
    tokens, padded = int(sizes.sum()), sum(int(sizes[b].max()) * len(b) for b in batches(sizes))
    print(f"{features()}\n{len(said)} sentences, {tokens} tokens, padding {1 - tokens / padded:.1%}")
    names = list(ENGINES)
    if not HAS_TORCH:
        print("pipelines: skipped, PyTorch is not installed: pip install 'backsight-ingest[torch]'")
        names = names[:2]
    elif not (folder / "model.safetensors").is_file():
        print(f"pipelines: skipped, {folder} has no model.safetensors")
        names = names[:2]
    drawn = np.sort(np.random.default_rng(1).permutation(len(said))[:PIPELINED])
    some = [texts[int(i)] for i in np.sort(np.random.default_rng(2).permutation(len(texts))[:PIPELINED])]
    inputs = {"fp32": said, "int8": said}
    inputs |= {name: [said[i] for i in drawn] if name.startswith("pipeline") else some for name in names[2:]}
    whole = np.bincount(owners, weights=sizes, minlength=len(said))
    of_texts = lengths(folder, some, WHOLE_TOKENS)
    once = of_texts[0][np.unique(of_texts[1], return_index=True)[1]]
    work = {
        "fp32": tokens,
        "int8": tokens,
        "pipeline": int(np.minimum(whole[drawn], MOST_TOKENS).sum()),
        "whole": int(once.sum()),
    }
    processes = {name: start(name, folder) for name in names}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    peaks = []
    for number in range(rounds):
        # The peak is taken in every round, so that the load of the machine meets all alike.
        peaks.append(peak_gemm())
        for name, process in processes.items():
            rows[name].append(ask(process, inputs[name]))
            print(f"round {number + 1}: {name} took {rows[name][-1]['wall']:.0f} s", flush=True)
    for process in processes.values():
        process.communicate()
    done = {name: work[name.split("-")[0]] for name in names}
    best = {name: {k: done[name] / min(r[k] for r in taken) for k in ("wall", "cpu")} for name, taken in rows.items()}
    beside = names[2:]
    print(
        f"{'engine':<12} {'tok/s':>7} {'tok/CPU-s':>10} {'x fp32':>7}",
        *(f"{f'x {name}':>14}" for name in beside),
        end="",
    )
    print(f" {'MiB over the file':>18}")
    for name, rate in best.items():
        file = folder / {"fp32": "model.onnx", "int8": "int8.onnx"}.get(name, "model.safetensors")
        over = rows[name][-1]["peak"] - file.stat().st_size / 2**20
        ratios = [f"{rate['wall'] / best[other]['wall']:>14.2f}" for other in beside]
        speed = f"{rate['wall']:>7.0f} {rate['cpu']:>10.0f} {rate['wall'] / best['fp32']['wall']:>7.2f}"
        print(f"{name:<12} {speed}", *ratios, f"{over:>18.0f}")
    if beside:
        short = whole[drawn] <= MOST_TOKENS
        ours, torchs = np.array(rows["fp32"][0]["scores"])[drawn], np.array(rows[beside[0]][0]["scores"])
        apart = np.abs(ours - torchs)[short].max()
        print(f"fp32 and PyTorch are at most {apart:.1g} apart on {short.sum()} sentences")
    share = padded / tokens * best["fp32"]["cpu"] * flop_per_token(folder) / 1e9 / max(peaks)
    print(f"fp32 peak {max(peaks):.0f} GFLOP per CPU-second; fp32 engine at {share:.0%} of it, padding counted as work")
    exact, fast = (np.array(rows[name][0]["scores"]) for name in ("fp32", "int8"))
    flips = (exact.argmax(axis=1) != fast.argmax(axis=1)).mean()
    deviation = np.abs((fast - exact) @ [1, -1, 0])
    print(
        f"int8 on these sentences: {flips:.2%} flips, |score| {deviation.mean():.4f} apart, {deviation.max():.3f} most"
    )


def repeats(data: Path) -> None:
    """Print how many texts of hourly batches of news are never scored, since they were scored before."""
    frames = []
    with tarfile.open(data / BATCHES) as archive:
        for member in archive:
            file = archive.extractfile(member)
            lines = b"" if file is None else file.read()
            if lines.startswith(b"datetime,"):
                frames.append(pl.read_csv(lines, infer_schema=False, truncate_ragged_lines=True))
    rows = pl.concat(frames, how="diagonal")
    said = (
        pl.concat([rows["headline"], rows["summary"]]).to_frame("text").select(normalise(pl.col("text"))).drop_nulls()
    )
    once = said.n_unique()
    print(
        f"{len(frames)} batches of news: {rows.height:,} rows, {said.height:,} titles and bodies, {once:,} of them "
        f"different: {1 - once / said.height:.1%} are never scored a second time"
    )


def gate(folder: Path) -> None:
    """Make int8 and print what the gate says of it; it is compared even where it would be refused."""
    from backsight_ingest.scoring.quantise import quantise

    model, target = folder / "model.onnx", folder / "int8.onnx"
    if not target.is_file():
        quantise(model, target)
    fast = opened(folder, target)
    print(f"alone and in a batch {check_neighbours(fast):.1g} apart")
    try:
        print(f"gate: let through, {check_parity(fast, opened(folder, model))}")
    except BadInput as refusal:
        print(f"gate: REFUSED, {refusal}")


def on_device(folder: Path, said: list[str], texts: int) -> None:
    """Print the speed of float32 on what the machine has."""
    scorer = opened(folder, folder / "model.onnx")
    tokens = int(lengths(folder, said)[0].sum())
    runs: dict[str, Callable[[list[str]], Any]] = {f"ONNX Runtime, {scorer.device}": scorer.score}
    if HAS_TORCH:
        import torch

        if torch.cuda.is_available():
            runs[f"PyTorch, {torch.cuda.get_device_name()}"] = torch_on_gpu(folder)
    for name, run in runs.items():
        run(said[:64])
        began = time.perf_counter()
        run(said)
        taken = time.perf_counter() - began
        print(f"{name}: {texts / taken:.0f} texts/s, {tokens / taken:.0f} tok/s")


def torch_on_gpu(folder: Path) -> Callable[[list[str]], Any]:
    """Return the same model in float32 on the GPU, sentences sorted by length."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = BertForSequenceClassification(AutoConfig.from_pretrained(str(folder))).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.to("cuda")

    def run(said: list[str]) -> list[Any]:
        ordered = sorted(said, key=len)
        found = []
        with torch.inference_mode():
            for i in range(0, len(ordered), 512):
                part = ordered[i : i + 512]
                feed = tokenizer(part, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
                found.append(model(**feed.to("cuda")).logits.cpu())
        return found

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2_000, help="half news, half posts; few texts mean more padding")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path, default=MODEL, help="folder with model.onnx and its tokenizer")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--device", action="store_true", help="only the speed on the machine's accelerator, if any")
    parser.add_argument("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve(asked.serve, asked.model)
        return
    texts = real_texts(asked.data, asked.texts)
    if not (asked.model / "model.onnx").is_file():
        make_model(asked.model, split(real_texts(asked.data, 4_000)))
    if asked.device:
        on_device(asked.model, split(texts), asked.texts)
        return
    repeats(asked.data)
    gate(asked.model)
    compare(asked.model, texts, asked.rounds)


if __name__ == "__main__":
    main()
