"""Names and colours of the labels that are written, as a table of BIDS."""

from __future__ import annotations

from stn3d.structures import STRUCTURES, Structure

# FreeSurfer's colours, so that viewers with and without the table agree; both sides have one.
_COLOURS = {
    "background": "#000000",
    "soft tissue": "#9696C8",
    "skull": "#78BE96",
    "cerebrospinal fluid": "#3C3C3C",
    "cerebral white matter": "#F5F5F5",
    "cerebral cortex": "#CD3E4E",
    "lateral ventricle": "#781286",
    "cerebellar white matter": "#DCF8A4",
    "cerebellar cortex": "#E69422",
    "thalamus": "#00760E",
    "caudate": "#7ABADC",
    "putamen": "#EC0DB0",
    "pallidum": "#0C30FF",
    "hippocampus": "#DCD814",
    "amygdala": "#67FFFF",
    "accumbens": "#FFA500",
    "ventral diencephalon": "#A52A2A",
    "third ventricle": "#CCB68E",
    "fourth ventricle": "#2ACCA4",
    "brain stem": "#779FB0",
}


def colour_of(structure: Structure) -> str:
    """The colour of a structure, ``#RRGGBB``."""
    return _COLOURS[structure.name]


def label_table_tsv() -> str:
    """Tab-separated table with the columns index, name and color (BIDS, ``*_dseg.tsv``).

    Its rows are in the order of the volumes of probabilities.nii.gz.
    """
    rows = [f"{one.label}\t{one.full_name}\t{colour_of(one)}" for one in STRUCTURES]
    return "\n".join(["index\tname\tcolor", *rows]) + "\n"
