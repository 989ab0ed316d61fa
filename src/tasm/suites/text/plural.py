"""plural: the plural of an English noun, regular or not."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import from_pairs, pairs

NOUNS = pairs("""
child: children|man: men|woman: women|foot: feet|tooth: teeth|mouse: mice|goose: geese
person: people|ox: oxen|leaf: leaves|knife: knives|wife: wives|life: lives|wolf: wolves
half: halves|shelf: shelves|loaf: loaves|thief: thieves|calf: calves|elf: elves|scarf: scarves
city: cities|baby: babies|lady: ladies|story: stories|party: parties|country: countries
family: families|berry: berries|cherry: cherries|fly: flies|spy: spies|army: armies
body: bodies|copy: copies|duty: duties|enemy: enemies|factory: factories|library: libraries
memory: memories|penny: pennies|pony: ponies|puppy: puppies|secretary: secretaries
box: boxes|fox: foxes|tax: taxes|bus: buses|class: classes|glass: glasses|dress: dresses
boss: bosses|church: churches|bench: benches|beach: beaches|peach: peaches|watch: watches
match: matches|witch: witches|dish: dishes|brush: brushes|wish: wishes|bush: bushes
potato: potatoes|tomato: tomatoes|hero: heroes|echo: echoes|radio: radios|photo: photos
piano: pianos|kilo: kilos|boy: boys|day: days|key: keys|toy: toys|monkey: monkeys
donkey: donkeys|valley: valleys|chimney: chimneys|roof: roofs|chief: chiefs|cliff: cliffs
crisis: crises|analysis: analyses|basis: bases|oasis: oases|thesis: theses
phenomenon: phenomena|criterion: criteria|bacterium: bacteria|cactus: cacti|fungus: fungi
nucleus: nuclei|stimulus: stimuli|fireman: firemen|policeman: policemen|salesman: salesmen
grandchild: grandchildren|housewife: housewives|dog: dogs|tree: trees|house: houses
horse: horses|table: tables|river: rivers|mountain: mountains|teacher: teachers|book: books
window: windows|garden: gardens|flower: flowers|letter: letters|village: villages|bridge: bridges
judge: judges|page: pages|face: faces|place: places|rose: roses|nose: noses|prize: prizes
""")


def plural(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A noun is named, its plural is the answer."""
    return from_pairs(world, NOUNS, demonstrations, queries)
