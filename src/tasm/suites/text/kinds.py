"""Words and sentences of some kinds: what each kind is called here is the answer."""

from __future__ import annotations

from itertools import product

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import by_kind, empty_names, part

KINDS = {
    "held-out": {
        "animal": """dog cat horse cow pig sheep goat lion tiger bear wolf fox rabbit mouse rat
            elephant giraffe zebra monkey camel deer moose whale dolphin shark eagle hawk owl crow
            sparrow robin duck goose chicken turkey snake lizard frog toad turtle crab lobster
            spider bee ant wasp beetle otter seal badger""",
        "vehicle": """car truck bus train bicycle motorcycle boat ship airplane helicopter tractor
            van taxi tram scooter ferry yacht canoe kayak submarine rocket jeep limousine ambulance
            bulldozer glider sled wagon trolley sedan minivan lorry raft steamboat sailboat jet
            moped tricycle carriage snowmobile""",
        "food": """apple banana orange grape pear peach plum cherry lemon mango strawberry potato
            carrot onion tomato cabbage spinach lettuce garlic pepper bread cheese butter rice pasta
            pizza soup salad cake cookie sandwich sausage bacon noodle yogurt honey jam pancake
            waffle biscuit""",
        "clothing": """shirt pants jacket coat hat sock shoe boot glove scarf sweater dress skirt
            belt tie jeans shorts vest blouse cap sandal slipper hoodie suit uniform robe pajamas
            mitten apron cardigan tuxedo sneaker underwear bikini raincoat kimono gown tunic
            leggings stocking""",
    },
    "train": {
        "job": """teacher doctor nurse lawyer farmer baker butcher carpenter plumber electrician
            engineer pilot sailor soldier judge journalist painter sculptor musician singer actor
            dancer waiter chef barber tailor librarian accountant secretary mechanic fisherman
            gardener dentist surgeon pharmacist architect scientist programmer banker cashier""",
        "body": """head arm leg hand foot finger toe knee elbow shoulder neck back chest stomach
            hip ankle wrist thumb nose mouth ear eye chin cheek forehead lip tongue tooth throat
            heart lung liver kidney brain bone muscle skin rib spine heel""",
        "furniture": """chair table sofa bed desk bookcase wardrobe dresser cupboard cabinet
            stool bench armchair couch shelf nightstand mattress crib cradle hammock lamp mirror
            rug carpet curtain drawer footstool recliner ottoman sideboard bunk futon
            bassinet headboard workbench bureau loveseat rocker settee pillow""",
        "weather": """rain snow wind storm thunder lightning hail fog mist cloud sunshine drizzle
            blizzard hurricane tornado breeze frost sleet heatwave drought flood cyclone typhoon
            monsoon gale rainbow humidity avalanche downpour shower thunderstorm ice dew haze smog
            whirlwind sandstorm squall temperature overcast""",
    },
}


def kinds(split: str) -> list[list[str]]:
    """The words of each kind of a split; the kinds themselves differ between the splits."""
    return [words.split() for words in KINDS[split].values()]


def category(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A word is named, what its kind is called here is the answer."""
    chosen = world.rng.sample(kinds(world.split), ways)
    names = empty_names(world.rng, ways, world.split)
    return by_kind(world, chosen, names, demonstrations, queries)


THINGS = (
    "the film was|the meal was|this hotel is|her new book is|the service was|the concert was|"
    "our teacher is|the beach was|the music is|his speech was|the whole trip was|the game is"
).split("|")
GOOD = (
    "wonderful great excellent amazing beautiful fantastic perfect lovely delightful brilliant "
    "superb charming pleasant magnificent enjoyable outstanding marvelous splendid"
).split()
BAD = (
    "terrible awful horrible boring disgusting dreadful ugly disappointing annoying miserable "
    "pathetic unpleasant useless nasty lousy hideous tedious appalling"
).split()


def opinions(words: list[str], split: str) -> list[str]:
    """Every sentence with a split's words."""
    return [" ".join(both) for both in product(THINGS, part(words, split))]


def sentiment(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """An opinion is given, the name for its kind is the answer."""
    kinds = [opinions(GOOD, world.split), opinions(BAD, world.split)]
    names = empty_names(world.rng, 2, world.split)
    return by_kind(world, kinds, names, demonstrations, queries)


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
