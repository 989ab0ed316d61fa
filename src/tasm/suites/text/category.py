"""category: words of some kinds, each kind called by a Greek letter."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import by_kind, empty_names

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
