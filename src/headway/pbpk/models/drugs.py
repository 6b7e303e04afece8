"""The two drugs of the shipped models: published parameters with their sources."""

from __future__ import annotations

from dataclasses import dataclass

from headway.pbpk.models import physiology


@dataclass(frozen=True)
class Variability:
    """How a parameter differs between people: log-normal, with bounds in the parameter's unit."""

    parameter: str
    cv: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Drug:
    """A drug as the shipped models need it.

    Attributes:
        id: name of the model and of its file.
        name: as written in titles.
        molar_mass: g/mol.
        log_p: log10 octanol to water partition coefficient.
        pka_base: basic pKa, or ``None`` for a very weak base that is not ionised at pH 7.
        fraction_unbound: in plasma.
        blood_to_plasma: concentration ratio.
        plasma_clearance: total, L/h per kg of body weight, after an intravenous dose.
        renal_fraction: part of that clearance that is unchanged drug in urine.
        absorption_rate: first order, 1/h.
        fraction_absorbed: of the oral dose.
        gut_escape: part of the absorbed drug that passes the gut wall unmetabolised.
        oral_dose: dose of the model as it is loaded, mg.
        variability: between people, for the parameters that belong to the drug.
        sources: per parameter, the publication.
    """

    id: str
    name: str
    molar_mass: float
    log_p: float
    pka_base: float | None
    fraction_unbound: float
    blood_to_plasma: float
    plasma_clearance: float
    renal_fraction: float
    absorption_rate: float
    fraction_absorbed: float
    gut_escape: float
    oral_dose: float
    variability: tuple[Variability, ...]
    sources: tuple[tuple[str, str], ...]

    @property
    def renal_clearance(self) -> float:
        """Renal plasma clearance, L/h per kg of body weight."""
        return self.plasma_clearance * self.renal_fraction

    @property
    def intrinsic_clearance(self) -> float:
        """Hepatic intrinsic clearance of unbound drug, L/h per kg of body weight.

        The published plasma clearance, less its renal part, put backwards through the
        well-stirred liver (M. Rowland, L. Z. Benet, G. G. Graham, J. Pharmacokinet. Biopharm. 1
        (1973) 123-136) at the liver blood flow of the reference adult male.
        """
        flow = physiology.REFERENCE_CARDIAC_OUTPUT * physiology.LIVER_FLOW_FRACTION / physiology.REFERENCE_BODY_WEIGHT
        blood_clearance = (self.plasma_clearance - self.renal_clearance) / self.blood_to_plasma
        unbound_in_blood = self.fraction_unbound / self.blood_to_plasma
        return blood_clearance * flow / (flow - blood_clearance) / unbound_in_blood


#: Variability of the body, the same in both models. Sizes are choices (see the reference page).
PHYSIOLOGICAL_VARIABILITY = (
    Variability("BW", 0.16, 45.0, 130.0),
    Variability("CO_ref", 0.15, 200.0, 700.0),
    Variability("FV_ad", 0.30, 0.09, 0.60),
    Variability("FV_mu", 0.15, 0.20, 0.60),
    Variability("FV_li", 0.20, 0.012, 0.045),
    Variability("FQ_li", 0.15, 0.03, 0.12),
    Variability("FQ_gu", 0.15, 0.08, 0.30),
    Variability("FQ_ki", 0.15, 0.09, 0.35),
)

CAFFEINE = Drug(
    id="caffeine",
    name="Caffeine",
    molar_mass=194.19,
    log_p=-0.07,
    pka_base=None,
    fraction_unbound=0.666,
    blood_to_plasma=0.822,
    plasma_clearance=0.072,
    renal_fraction=0.0183,
    absorption_rate=4.94,
    fraction_absorbed=1.0,
    gut_escape=1.0,
    oral_dose=300.0,
    variability=(
        Variability("CLint", 0.40, 0.02, 0.60),
        Variability("ka", 0.40, 1.0, 15.0),
        Variability("fup", 0.08, 0.45, 0.90),
    ),
    sources=(
        ("log P", "C. Hansch, A. Leo, D. Hoekman, Exploring QSAR, American Chemical Society, 1995"),
        (
            "fraction unbound (2.07 / 3.11)",
            "A. Lelo, D. J. Birkett, R. A. Robson, J. O. Miners, Br. J. Clin. Pharmacol. 22 (1986) 177-182",
        ),
        (
            "blood to plasma ratio (estimated in silico there), absorption rate",
            "J. Pharm. Health Care Sci. 7 (2021) 36, Table 2, doi 10.1186/s40780-021-00220-z",
        ),
        ("plasma clearance (1.2 mL/min/kg, 17 adults)", "Clin. Pharmacol. Ther. 39 (1986) 54-59, PubMed 3943270"),
        (
            "renal fraction (1.83 %), complete absorption",
            "R. Newton et al., Eur. J. Clin. Pharmacol. 21 (1981) 45-52, doi 10.1007/BF00609587",
        ),
        (
            "no first pass",
            "J. Blanchard, S. J. A. Sawers, Eur. J. Clin. Pharmacol. 24 (1983) 93-98, doi 10.1007/BF00613933",
        ),
    ),
)

MIDAZOLAM = Drug(
    id="midazolam",
    name="Midazolam",
    molar_mass=325.77,
    log_p=3.1,
    pka_base=6.2,
    fraction_unbound=0.031,
    blood_to_plasma=0.564,
    plasma_clearance=0.383,
    renal_fraction=0.0028,
    absorption_rate=3.0,
    fraction_absorbed=1.0,
    gut_escape=0.57,
    oral_dose=7.5,
    variability=(
        Variability("CLint", 0.40, 3.0, 150.0),
        Variability("ka", 0.40, 0.6, 12.0),
        Variability("Fg", 0.25, 0.15, 0.98),
        Variability("fup", 0.20, 0.012, 0.070),
    ),
    sources=(
        ("log P", "T. Rodgers, M. Rowland, J. Pharm. Sci. 95 (2006) 1238-1257"),
        ("pKa", "Y. H. Wang et al., Clin. Pharmacol. Ther. 105 (2019) 515-523"),
        (
            "fraction unbound",
            (
                "S. Bjorkman, D. R. Wada, B. M. Berling, G. Benoni, J. Pharm. Sci. 90 (2001) 1226-1241, "
                "doi 10.1002/jps.1076"
            ),
        ),
        (
            "blood to plasma ratio (283 / 502), absorption rate (half-life 0.23 h)",
            "H. Allonen, G. Ziegler, U. Klotz, Clin. Pharmacol. Ther. 30 (1981) 653-661, doi 10.1038/clpt.1981.217",
        ),
        (
            "plasma clearance (0.383 L/h/kg, 6 adults; of published values the higher)",
            "M. T. Smith, M. J. Eadie, T. O. Brophy, Eur. J. Clin. Pharmacol. 19 (1981) 271-278, doi 10.1007/BF00562804",
        ),
        (
            "renal fraction (0.28 %), gut wall extraction (0.43)",
            "K. E. Thummel et al., Clin. Pharmacol. Ther. 59 (1996) 491-502",
        ),
    ),
)

DRUGS = (CAFFEINE, MIDAZOLAM)
