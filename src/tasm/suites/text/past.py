"""past: the past of an irregular English verb."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import from_pairs, pairs

VERBS = pairs("""
go: went|see: saw|take: took|give: gave|find: found|think: thought|buy: bought|bring: brought
catch: caught|teach: taught|run: ran|sing: sang|swim: swam|drink: drank|begin: began
write: wrote|drive: drove|ride: rode|speak: spoke|break: broke|choose: chose|steal: stole
wear: wore|know: knew|grow: grew|throw: threw|fly: flew|draw: drew|eat: ate|fall: fell
feel: felt|keep: kept|sleep: slept|leave: left|lose: lost|build: built|send: sent
spend: spent|sell: sold|tell: told|stand: stood|understand: understood|win: won|sit: sat
get: got|forget: forgot|make: made|say: said|pay: paid|hear: heard|hold: held|meet: met
lead: led|shoot: shot|fight: fought|seek: sought|come: came|become: became|hide: hid
bite: bit|shake: shook|wake: woke|blow: blew|freeze: froze|bend: bent|lend: lent|dig: dug
stick: stuck|strike: struck|swing: swung|spin: spun|cling: clung|fling: flung|sting: stung
ring: rang|sink: sank|shrink: shrank|spring: sprang|stink: stank|swear: swore|tear: tore
bear: bore|rise: rose|arise: arose|awake: awoke|weave: wove|forgive: forgave|forbid: forbade
mistake: mistook|overtake: overtook|undertake: undertook|overcome: overcame|do: did|undo: undid
have: had|deal: dealt|mean: meant|creep: crept|sweep: swept|weep: wept|kneel: knelt
feed: fed|bleed: bled|breed: bred|speed: sped|flee: fled|slide: slid|light: lit
grind: ground|bind: bound|wind: wound|hang: hung|lay: laid|shine: shone|withdraw: withdrew
withhold: withheld|withstand: withstood|undergo: underwent|foresee: foresaw|oversee: oversaw
overhear: overheard|mislead: misled|rebuild: rebuilt|rewrite: rewrote|outgrow: outgrew
overthrow: overthrew|retell: retold|unwind: unwound|strive: strove|tread: trod|redo: redid
""")


def past(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A verb is named, its simple past is the answer."""
    return from_pairs(world, VERBS, demonstrations, queries)
