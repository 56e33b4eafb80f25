"""`synthorax study scores`: the comparison of the user's own detectors, as results.json and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from synthorax.figures import forest
from synthorax.io.atomic import atomic_folder, check_folder_is_free
from synthorax.io.mappings import read_mapping
from synthorax.provenance import sha256
from synthorax.report import write_page
from synthorax.studies.answers import about_p, which_score_better
from synthorax.studies.own_scores import compare_own_scores, read_own_scores
from synthorax.studies.results import RESULTS, check_same_request, machine, write_results


def study_scores(files: Sequence[Path], out: Path, *, reference: str | None = None, overwrite: bool = False) -> Path:
    """Compare the scores of detectors, and write the results and the page.

    Args:
        files: tables of scores, see `own_scores.read_own_scores`.
        out: folder of the study.
        reference: arm without synthetic nodules; the first arm if not given.
        overwrite: replace a folder that an earlier call wrote.

    Returns:
        The page, with `results.json` beside it.

    Raises:
        InputError: see `own_scores.read_own_scores` and `own_scores.compare_own_scores`; or the folder holds something
            else.
    """
    hashes = [[file.name, sha256(file)] for file in files]
    request = {"study": "scores", "scores": hashes, "reference": reference or ""}
    earlier = read_mapping(out / RESULTS) if (out / RESULTS).is_file() and not overwrite else {}
    if "request" in earlier:
        check_same_request(out, earlier, request)
        return out / "index.html"
    check_folder_is_free(out, overwrite=overwrite, sources=files)
    own = read_own_scores(files)
    arms, tests = compare_own_scores(own, reference or next(iter(own.scores)))
    counts = own.counts
    answer = which_score_better(tests, arms, counts["patients"])
    with atomic_folder(out, overwrite=overwrite) as folder:
        results = folder / RESULTS
        listed = [asdict(test) for test in tests]
        write_results(
            results, "scores", {"files": hashes}, arms, answer=answer, tests=listed, counts=counts, request=request
        )
        write_page(
            folder / "index.html",
            "study_scores.html",
            answer=answer,
            arms=arms,
            tests=tests,
            counts=counts,
            trainings=len(arms[0].seeds),
            about_p=about_p(len(arms[0].seeds), "the number of arms"),
            picture=forest({t.a: (t.difference, t.low, t.high) for t in tests}, f"AUC less that of “{arms[0].name}”"),
            machine=machine(),
        )
    return out / "index.html"
