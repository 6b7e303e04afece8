"""Tissue to plasma partition coefficients for very weak bases (pKa below 7), which bind to albumin.

Equation and tissue composition: T. Rodgers and M. Rowland, *Physiologically based pharmacokinetic
modelling 2: predicting the tissue distribution of acids, very weak bases, neutrals and
zwitterions*, J. Pharm. Sci. 95 (2006) 1238-1257; the composition (rat, taken for man as there)
also in part 1, T. Rodgers, D. Leahy, M. Rowland, J. Pharm. Sci. 94 (2005) 1259-1276.

There acids and very weak bases bind to albumin, neutral drugs to lipoprotein. Lipoprotein ratios are not in
the table here, so these equations are not for a drug without any basic or acidic group that is bound in plasma.
"""

from __future__ import annotations

from dataclasses import dataclass

PH_PLASMA = 7.4
PH_CELL_WATER = 7.0
PLASMA_NEUTRAL_LIPID = 0.0023
PLASMA_NEUTRAL_PHOSPHOLIPID = 0.0013


@dataclass(frozen=True)
class Composition:
    """Fractions of tissue wet weight, and albumin in tissue over albumin in plasma (dimensionless)."""

    neutral_lipid: float
    neutral_phospholipid: float
    extracellular_water: float
    intracellular_water: float
    albumin_ratio: float


TISSUES = {
    "adipose": Composition(0.853, 0.0016, 0.135, 0.017, 0.049),
    "bone": Composition(0.0174, 0.0016, 0.100, 0.346, 0.100),
    "brain": Composition(0.0391, 0.0015, 0.162, 0.620, 0.048),
    "gut": Composition(0.0375, 0.0124, 0.282, 0.475, 0.158),
    "heart": Composition(0.0135, 0.0106, 0.320, 0.456, 0.157),
    "kidney": Composition(0.0121, 0.0240, 0.273, 0.483, 0.130),
    "liver": Composition(0.0135, 0.0238, 0.161, 0.573, 0.086),
    "lung": Composition(0.0215, 0.0123, 0.336, 0.446, 0.212),
    "muscle": Composition(0.0100, 0.0072, 0.118, 0.630, 0.064),
    "skin": Composition(0.0603, 0.0044, 0.382, 0.291, 0.277),
    "spleen": Composition(0.0071, 0.0107, 0.207, 0.579, 0.097),
}


def partition_coefficient(tissue: str, *, log_p: float, fraction_unbound: float, pka_base: float | None) -> float:
    """Tissue to plasma concentration ratio at steady state.

    Args:
        tissue: a key of ``TISSUES``.
        log_p: log10 of the octanol to water partition coefficient of the neutral form.
        fraction_unbound: unbound fraction in plasma, 0 to 1.
        pka_base: the basic pKa, below 7; ``None`` for a base so weak that nothing of it is ionised at pH 7.

    Returns:
        Kp, dimensionless.
    """
    body = TISSUES[tissue]
    octanol = 10.0**log_p
    # Adipose takes the vegetable oil to water coefficient in place of octanol to water (ibid.).
    oil = 10.0 ** (1.115 * log_p - 1.35) if tissue == "adipose" else octanol
    cell = 1.0 if pka_base is None else 1.0 + 10.0 ** (pka_base - PH_CELL_WATER)
    plasma = 1.0 if pka_base is None else 1.0 + 10.0 ** (pka_base - PH_PLASMA)
    lipid = oil * body.neutral_lipid + (0.3 * oil + 0.7) * body.neutral_phospholipid
    plasma_lipid = octanol * PLASMA_NEUTRAL_LIPID + (0.3 * octanol + 0.7) * PLASMA_NEUTRAL_PHOSPHOLIPID
    albumin = max(1.0 / fraction_unbound - 1.0 - plasma_lipid / plasma, 0.0) * body.albumin_ratio
    unbound = cell * body.intracellular_water / plasma + body.extracellular_water + lipid / plasma + albumin
    kp: float = unbound * fraction_unbound
    return kp
