"""opposite: the word that means the contrary."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import from_pairs, pairs

WORDS = pairs("""
hot: cold|big: small|tall: short|fast: slow|happy: sad|rich: poor|strong: weak|hard: soft
light: dark|heavy: light|old: young|new: old|early: late|high: low|deep: shallow|wide: narrow
thick: thin|full: empty|open: closed|wet: dry|clean: dirty|good: bad|right: wrong|true: false
near: far|inside: outside|up: down|left: right|above: below|before: after|first: last
begin: end|start: stop|buy: sell|give: take|push: pull|win: lose|love: hate|laugh: cry
live: die|remember: forget|enter: exit|arrive: depart|rise: fall|increase: decrease
accept: reject|attack: defend|build: destroy|create: destroy|borrow: lend
day: night|summer: winter|morning: evening|north: south|east: west|man: woman|boy: girl
king: queen|brother: sister|father: mother|husband: wife|friend: enemy|war: peace|life: death
heaven: hell|front: back|top: bottom|male: female|hero: villain|success: failure|truth: lie
question: answer|beginning: end|victory: defeat|strength: weakness|wealth: poverty|joy: sorrow
hope: despair|freedom: slavery|always: never|everything: nothing|everyone: nobody
everywhere: nowhere|more: less|many: few|most: least|all: none|yes: no|on: off|in: out|over: under
forward: backward|brave: cowardly|kind: cruel|polite: rude|wise: foolish|smart: stupid
generous: selfish|humble: proud|honest: dishonest|loud: quiet|noisy: silent|smooth: rough
sharp: dull|sweet: bitter|fresh: stale|raw: cooked|cheap: expensive|simple: complex
easy: difficult|possible: impossible|legal: illegal|visible: invisible|active: passive
positive: negative|public: private|ancient: modern|permanent: temporary|guilty: innocent
safe: dangerous|beautiful: ugly|alive: dead|awake: asleep|present: absent|major: minor
maximum: minimum|internal: external|artificial: natural|optimistic: pessimistic
""")


def opposite(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A word is named, its contrary is the answer."""
    return from_pairs(world, WORDS, demonstrations, queries)
