"""capital: the capital of a country."""

from __future__ import annotations

from tasm.suites.episodes import Episode, World
from tasm.suites.text.lists import from_pairs, pairs

CAPITALS = pairs("""
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
""")


def capital(world: World, demonstrations: int, queries: int, ways: int) -> Episode:
    """A country is named, its capital is the answer."""
    return from_pairs(world, CAPITALS, demonstrations, queries)
