"""Words in pairs, one asked and one the answer: the tasks are told apart by their lists."""

from __future__ import annotations

from tasm.suites.episodes import Episode, Task, World
from tasm.suites.text.lists import part, turn

_PAIRS = {
    "capital": """
France: Paris|Germany: Berlin|Italy: Rome|Spain: Madrid|Portugal: Lisbon|Greece: Athens
Austria: Vienna|Poland: Warsaw|Hungary: Budapest|Sweden: Stockholm|Norway: Oslo
Denmark: Copenhagen|Finland: Helsinki|Ireland: Dublin|Belgium: Brussels|Russia: Moscow
Ukraine: Kiev|Turkey: Ankara|Egypt: Cairo|Kenya: Nairobi|Japan: Tokyo|China: Beijing
India: New Delhi|Iran: Tehran|Iraq: Baghdad|Syria: Damascus|Lebanon: Beirut|Jordan: Amman
Cuba: Havana|Peru: Lima|Chile: Santiago|Ecuador: Quito|Canada: Ottawa|Thailand: Bangkok
Vietnam: Hanoi|Indonesia: Jakarta|Philippines: Manila|Nepal: Kathmandu|Bangladesh: Dhaka
Pakistan: Islamabad|Afghanistan: Kabul|Australia: Canberra|Bulgaria: Sofia|Romania: Bucharest
Serbia: Belgrade|Croatia: Zagreb|Latvia: Riga|Estonia: Tallinn|Lithuania: Vilnius
Iceland: Reykjavik|Morocco: Rabat|Tunisia: Tunis|Algeria: Algiers|Libya: Tripoli|Ghana: Accra
Nigeria: Abuja|Senegal: Dakar|Uganda: Kampala|Ethiopia: Addis Ababa|Venezuela: Caracas
Colombia: Bogota|Uruguay: Montevideo|Switzerland: Bern|Netherlands: Amsterdam
Scotland: Edinburgh|Wales: Cardiff|England: London|Israel: Jerusalem|Argentina: Buenos Aires
Brazil: Brasilia|Bolivia: La Paz|Paraguay: Asuncion|Mexico: Mexico City|Panama: Panama City
Costa Rica: San Jose|Nicaragua: Managua|Guatemala: Guatemala City|Jamaica: Kingston
Haiti: Port-au-Prince|South Korea: Seoul|North Korea: Pyongyang|Taiwan: Taipei
Mongolia: Ulaanbaatar|Malaysia: Kuala Lumpur|Cambodia: Phnom Penh|Laos: Vientiane
Sri Lanka: Colombo|Saudi Arabia: Riyadh|Qatar: Doha|Kuwait: Kuwait City|Oman: Muscat
Yemen: Sanaa|United Arab Emirates: Abu Dhabi|Armenia: Yerevan|Georgia: Tbilisi
Azerbaijan: Baku|Uzbekistan: Tashkent|Cyprus: Nicosia|Malta: Valletta|Albania: Tirana
Slovakia: Bratislava|Slovenia: Ljubljana|Czech Republic: Prague|Bosnia: Sarajevo
Macedonia: Skopje|Belarus: Minsk|Moldova: Chisinau|South Africa: Pretoria|Zimbabwe: Harare
Zambia: Lusaka|Angola: Luanda|Mozambique: Maputo|Tanzania: Dodoma|Rwanda: Kigali
Somalia: Mogadishu|Sudan: Khartoum|Mali: Bamako|Niger: Niamey|Liberia: Monrovia
Sierra Leone: Freetown|Cameroon: Yaounde|New Zealand: Wellington|Fiji: Suva
United States: Washington|United Kingdom: London|Honduras: Tegucigalpa|Luxembourg: Luxembourg
""",
    "past": """
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
""",
    "plural": """
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
""",
    "opposite": """
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
""",
}


def items(name: str) -> list[str]:
    """The pairs of a task as `question: answer`, both splits; the answer may hold spaces."""
    return [item.strip() for line in _PAIRS[name].split("\n") if line for item in line.split("|")]


def of_pairs(name: str) -> Task:
    """The task of a list: the first of a pair is named, the second is the answer."""

    def task(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
        drawn = world.rng.sample(part(items(name), world.split), demonstrations + queries)
        turns = [turn(*item.split(": ")) for item in drawn]
        return Episode(turns[:demonstrations], turns[demonstrations:])

    return task
