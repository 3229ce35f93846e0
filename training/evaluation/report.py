"""The figures as Markdown and as plots."""

from pathlib import Path
from typing import Any

import numpy as np

_TRANSFER = {
    "psnr_db": ("PSNR dB", 2),
    "gain_db": ("gain dB", 2),
    "gain_frontal_db": ("within 20°", 2),
    "psnr_face_db": ("PSNR dB, face", 2),
    "ssim": ("SSIM", 3),
    "l1": ("L1", 3),
    "l1_changed": ("L1, changed pixels", 3),
    "perceptual": ("perceptual", 3),
    "kid": ("KID", 3),
    "expression_accuracy": ("expression accuracy", 3),
    "expression_accuracy_from_neutral": ("from neutral", 3),
    "expression_accuracy_from_expressive": ("from expressive", 3),
    "identity_similarity": ("identity similarity", 3),
}

WAYS = {
    "own": "the model's own code (it flatters)",
    "landmarker": "the face landmarker",
    "landmarker_on_truth": "the face landmarker on the true images",
}
"""Who says how far edits are along their way."""


def table(result: dict[str, Any]) -> str:
    """All figures as Markdown."""
    parts = [_transfer(result)]
    if result["independent"]:
        parts.append(_independent(result["independent"], result["read"]))
    parts += [_edit(result["edit"]), _recognition(result["recognition"], result["folds"]), _leakage(result["leakage"])]
    if "photographs" in result:
        parts.append(_photographs(result["photographs"]))
    parts += [f"Not read by {name}: {reason}" for name, reason in result["missing"].items()]
    return "\n\n".join(parts) + "\n"


def _transfer(result: dict[str, Any]) -> str:
    rows = {
        name: ["∞" if row["l1"] == 0 and key.endswith("_db") else _number(row[key], digits)
               for key, (_, digits) in _TRANSFER.items()]
        for name, row in result["transfer"].items()
    }  # fmt: skip
    spread = result["transfer"]["model"]["kid_sd"]
    return (
        f"{result['transfers']} transfers among {result['people']} people never trained on:\n\n"
        + _markdown([title for title, _ in _TRANSFER.values()], rows)
        + "\n\nExpression and identity in this table are read by our own judge, a separate network. Perceptual "
        "distance (LPIPS-like, unweighted) and KID see by EfficientNet-Lite0 from ImageNet; "
        f"the KID's spread over subsets is {spread:.3f}."
    )


def _independent(rows: dict[str, dict[str, Any]], count: int) -> str:
    titles, cells = (
        ["AED", "face found"],
        {name: [_number(row["aed"]), _number(row["found"])] for name, row in rows.items()},
    )
    for reader, values in rows["model"].items():
        if not isinstance(values, dict):
            continue
        if "accuracy" in values:
            titles += [f"{reader}: accuracy", "from neutral", "from expressive", "agrees with truth"]
            keys = ("accuracy", "accuracy_from_neutral", "accuracy_from_expressive", "agrees_with_truth")
        else:
            titles += [f"{reader}: same person", "other person", "rank 1"]
            keys = ("same_person", "other_person", "rank_1")
        for name, row in rows.items():
            cells[name] += [_number(row[reader][key]) for key in keys]
    return (
        f"{count} of them read by networks that nobody here trained (AED: blendshapes of the face landmarker):\n\n"
        + _markdown(titles, cells)
    )


def _edit(edit: dict[str, Any]) -> str:
    accuracy, ceiling = edit["expression_accuracy"], edit["ceiling"]
    rows = {
        "edits": [f"{edit['mean_expression_accuracy']:.3f}", *(f"{value:.2f}" for value in accuracy.values())],
        "true images at their peak": [
            f"{edit['mean_ceiling']:.3f}",
            *(f"{ceiling[name]:.2f}" if name in ceiling else "-" for name in accuracy),
        ],
    }
    text = "Editing to the peak, read by our judge:\n\n" + _markdown(["mean", *accuracy], rows)
    text += f"\n\nIntensity 0 gives the input back at {edit['psnr_db_at_intensity_0']:.1f} dB."
    for reader, name in WAYS.items():
        if edit[reader]:
            along = edit[reader]
            text += (
                f" Read by {name}, {100 * along['monotone']:.0f} % of {along['edits']} edits rise at every step of "
                f"intensity, R² of a straight line {along['linearity']:.2f}."
            )
    return text


def _recognition(recognition: dict[str, Any], folds: dict[str, Any]) -> str:
    names = recognition["expressions"]
    rows = {name: [str(n) for n in row] for name, row in zip(names, recognition["confusion"], strict=True)}
    return (
        f"Recognition: accuracy {recognition['accuracy']:.3f}, macro-F1 {recognition['macro_f1']:.3f}, calibration "
        f"error {recognition['ece']:.3f} over {recognition['images']} images. On sequences as Oulu-CASIA has them "
        f"({folds['people']} people, six expressions, last three frames, 10 folds without common people): "
        f"{folds['as_it_is']['accuracy']:.3f} ± {folds['as_it_is']['sd']:.3f} as it is, "
        f"{folds['probe']['accuracy']:.3f} ± {folds['probe']['sd']:.3f} by a linear classifier on the frozen "
        "expression code, fitted on nine folds. Confusion (rows: true):\n\n" + _markdown(names, rows)
    )


def _leakage(leakage: dict[str, dict[str, float]]) -> str:
    rows = {name: [f"{row['expression']:.3f}", f"{row['person']:.3f}"] for name, row in leakage.items()}
    return "What a linear classifier reads from either code:\n\n" + _markdown(["expression", "person"], rows)


def _photographs(found: dict[str, Any]) -> str:
    rows = {
        name: [f"{row['accuracy']:.3f}", *(f"{share:.2f}" for share in row["share"].values())]
        for name, row in found["recognition"].items()
    }
    expressions = list(found["recognition"]["model"]["share"])
    text = (
        f"{found['photographs']} photographs of {found['people']} people ({' and '.join(expressions)} alone):\n\n"
        + _markdown(["accuracy", *expressions], rows)
    )
    if found["units"]:
        smile, correlation = found["smile"], np.median(list(found["units"].values()))
        higher = f"{smile['higher']} of {smile['people']} people"
        text += (
            f"\n\nSmile measured higher in the smiling photograph for {higher}, by "
            f"{smile['mean_difference']:.2f} on average. Face units against the landmarker's blendshapes: median "
            f"correlation {correlation:.2f} over {len(found['units'])} units."
        )
    for title, table_ in found.items():
        if " to " in title:
            columns = list(table_["copy"])
            cells = {name: [_number(row[key]) for key in columns] for name, row in table_.items()}
            text += f"\n\nPhotographs, {title}:\n\n" + _markdown(columns, cells)
    return text


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _markdown(titles: list[str], rows: dict[str, list[str]]) -> str:
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])


def plot(result: dict[str, Any], path: Path) -> Path:
    """Four pictures: accuracy of transfers, the way of edits, reliability, confusion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    bars, way, calibration, matrix = figure.subplots(2, 2).flat

    rows = result["transfer"]
    places = np.arange(len(rows))
    for shift, side in ((-0.2, "neutral"), (0.2, "expressive")):
        values = [row[f"expression_accuracy_from_{side}"] or 0 for row in rows.values()]
        bars.bar(places + shift, values, 0.4, label=f"identity image {side}")
    bars.set(title="Transfer: expression read by our judge", ylabel="accuracy", xticks=places, ylim=(0, 1.15))
    bars.set_xticklabels(list(rows))
    bars.legend(loc="upper center", ncols=2)

    edit = result["edit"]
    way.plot([0, 1], [0, 1], "k:", label="straight")
    for reader, name in WAYS.items():
        if edit[reader]:
            way.plot(edit["intensities"], edit[reader]["curve"], "o-", label=name)
    way.set(title="Editing: way against intensity", xlabel="intensity", ylabel="share of the way")
    way.legend()

    recognition = result["recognition"]
    confidence, accuracy, share = (
        [row[key] for row in recognition["reliability"]] for key in ("confidence", "accuracy", "share")
    )
    calibration.plot([0, 1], [0, 1], "k:")
    calibration.scatter(confidence, accuracy, s=20 + 800 * np.array(share), alpha=0.6)
    title = f"Recognition: calibration error {recognition['ece']:.3f} (area: share of images)"
    calibration.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.05), ylim=(0, 1.05))

    counts = np.array(recognition["confusion"])
    matrix.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            matrix.text(j, i, str(count), ha="center", va="center", color="white" if i == j else "black")
    names = recognition["expressions"]
    matrix.set(title="Recognition: confusion", xlabel="predicted", ylabel="true")
    matrix.set_xticks(range(len(names)), names, rotation=45, ha="right")
    matrix.set_yticks(range(len(names)), names)
    figure.savefig(path, dpi=90)
    return path
