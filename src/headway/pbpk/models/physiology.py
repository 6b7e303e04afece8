"""Reference adult male: organ volumes and blood flows of the shipped models.

Sources (numbers only):

* Masses: ICRP Publication 89, *Basic anatomical and physiological data for use in radiological
  protection: reference values*, Ann. ICRP 32 (3-4), 2002: reference adult male of 73 kg.
* Flows, as per cent of the cardiac output of 6.5 L/min: the same publication, reference adult male.
* The split of blood between the arterial and the venous pool (1 : 3) is an assumption; it
  matters in the first minutes only.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Body weight of the reference adult male, kg.
REFERENCE_BODY_WEIGHT = 73.0

#: Cardiac output of the reference adult male, L/h (6.5 L/min).
REFERENCE_CARDIAC_OUTPUT = 390.0

#: Exponent of body weight in cardiac output (allometric; dimensionless).
CARDIAC_OUTPUT_EXPONENT = 0.75

#: Blood volume of the reference adult male, L.
BLOOD_VOLUME = 5.3

#: Part of the blood volume in the arterial pool (assumption, see the module's docstring).
ARTERIAL_FRACTION = 0.25


@dataclass(frozen=True)
class Organ:
    """One flow-limited tissue.

    Attributes:
        id: two letters, as used in parameter names (``V_li``, ``Kp_li``).
        name: English name.
        mass: kg in the reference adult male.
        density: kg/L.
        flow_fraction: arterial blood flow as a fraction of cardiac output; ``None`` for the lung,
            through which the whole cardiac output goes.
        composition: name of the tissue in ``partition.TISSUES`` whose composition it has.
        drains_to: id of the organ that its venous blood enters; empty for the venous pool.
    """

    id: str
    name: str
    mass: float
    density: float
    flow_fraction: float | None
    composition: str
    drains_to: str = ""

    @property
    def volume_per_weight(self) -> float:
        """Volume per body weight, L/kg, rounded to five decimals as it stands in the model."""
        return round(self.mass / self.density / REFERENCE_BODY_WEIGHT, 5)


#: Every tissue. ``gu`` is stomach, intestine and pancreas; ``re`` is what the others leave
#: (lymph nodes, thyroid, adrenals, testes, bronchial flow and other tissue).
ORGANS = (
    Organ("lu", "lung", 0.50, 1.05, None, "lung"),
    Organ("he", "heart", 0.33, 1.03, 0.04, "heart"),
    Organ("br", "brain", 1.45, 1.03, 0.12, "brain"),
    Organ("ki", "kidneys", 0.31, 1.05, 0.19, "kidney"),
    Organ("mu", "muscle", 29.0, 1.04, 0.17, "muscle"),
    Organ("ad", "adipose tissue", 18.2, 0.92, 0.05, "adipose"),
    Organ("sk", "skin", 3.3, 1.05, 0.05, "skin"),
    Organ("bo", "bone and marrow", 10.5, 1.30, 0.05, "bone"),
    Organ("gu", "gut and pancreas", 1.31, 1.04, 0.16, "gut", drains_to="li"),
    Organ("sp", "spleen", 0.15, 1.05, 0.03, "spleen", drains_to="li"),
    Organ("li", "liver", 1.8, 1.04, 0.065, "liver"),
    Organ("re", "rest of the body", 0.55, 1.04, 0.075, "muscle"),
)

ARTERIAL_VOLUME_PER_WEIGHT = round(BLOOD_VOLUME * ARTERIAL_FRACTION / REFERENCE_BODY_WEIGHT, 5)
VENOUS_VOLUME_PER_WEIGHT = round(BLOOD_VOLUME * (1 - ARTERIAL_FRACTION) / REFERENCE_BODY_WEIGHT, 5)

#: Flow through the liver as a fraction of cardiac output: hepatic artery, gut and spleen.
LIVER_FLOW_FRACTION = 0.065 + 0.16 + 0.03
