"""language: which language a short sentence is in."""

from __future__ import annotations

from itertools import product

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import by_kind

# For each language: who (a half for each split), does what, to what.
LANGUAGES = {
    "English": (
        (("the child", "my brother", "the teacher"), ("the woman", "our neighbour", "the doctor")),
        "sees buys wants finds".split(),
        ("the house", "a red car", "the old book", "some bread", "a small dog"),
    ),
    "French": (
        (("l'enfant", "mon frère", "le professeur"), ("la femme", "notre voisin", "le médecin")),
        "voit achète veut trouve".split(),
        ("la maison", "une voiture rouge", "le vieux livre", "du pain", "un petit chien"),
    ),
    "Spanish": (
        (("el niño", "mi hermano", "el profesor"), ("la mujer", "nuestro vecino", "el médico")),
        "ve compra quiere encuentra".split(),
        ("la casa", "un coche rojo", "el libro viejo", "el pan", "un perro pequeño"),
    ),
    "German": (
        (("das Kind", "mein Bruder", "der Lehrer"), ("die Frau", "unser Nachbar", "der Arzt")),
        "sieht kauft will findet".split(),
        ("das Haus", "ein rotes Auto", "das alte Buch", "etwas Brot", "einen kleinen Hund"),
    ),
    "Italian": (
        (("il bambino", "mio fratello", "il maestro"), ("la donna", "il vicino", "il medico")),
        "vede compra vuole trova".split(),
        ("la casa", "una macchina rossa", "il vecchio libro", "il pane", "un piccolo cane"),
    ),
    "Dutch": (
        (("het kind", "mijn broer", "de leraar"), ("de vrouw", "onze buurman", "de dokter")),
        "ziet koopt wil vindt".split(),
        ("het huis", "een rode auto", "het oude boek", "wat brood", "een kleine hond"),
    ),
}


def sentences(name: str, split: str) -> list[str]:
    """Every sentence of a language that a split has."""
    who, does, what = LANGUAGES[name]
    chosen = who[1 if split == "held-out" else 0]
    return [" ".join(words) for words in product(chosen, does, what)]


def language(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A sentence is given, the name of its language is the answer."""
    names = world.rng.sample(list(LANGUAGES), ways)
    kinds = [sentences(name, world.split) for name in names]
    return by_kind(world, kinds, names, demonstrations, queries)
