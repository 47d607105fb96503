"""What column names mean: words of several languages for each event field, and how sure each is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_FOLDED = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "ł": "l"}
_SUFFIX, _PREFIX, _INSIDE, _SINGLE = 0.85, 0.7, 0.7, 0.5
_QUALIFIED, _PLURAL = 0.95, 0.9
"""Factors of a name with a qualifier in brackets, `Grand Total (Base)`, and of a plural."""

_NAMES: Mapping[str, Mapping[float, str]] = {
    "user_id": {
        1.0: "userid customerid clientid visitorid distinctid userpseudoid memberid shopperid buyerid "
        "personid kundenid kundennummer kundennr kundenr nutzerid benutzerid idclient clientid idcliente "
        "clienteid usuarioid idusuario utenteid klantid klantnummer idklienta klientid uzytkownikid 用户id "
        "会员id 顧客id ユーザーid",
        0.9: "user customer visitor shopper buyer kunde nutzer benutzer cliente client usuario utilisateur "
        "utente klant gebruiker klient uzytkownik customernumber customerno accountid loyaltyid "
        "consumerid contactid subscriberid householdkey customeremail useremail klientid uid "
        "fullvisitorid mcvisid puid cardid",
        0.8: "email mail emailaddress account member person customerhash visid clientkey",
        0.6: "deviceid anonymousid cookieid browserid anonid installationid externalid profileid guestid "
        "besucherid visiteurid idvisiteur idvisitante bezoekerid geraeteid fingerprint",
    },
    "event_time": {
        1.0: "eventtime eventtimestamp timestamp occurredat eventdatetime zeitstempel horodatage",
        0.95: "time datetime clienteventtime zeit zeitpunkt orderdate purchasedate transactiondate "
        "invoicedate "
        "bestelldatum kaufdatum datecommande datedecommande fechapedido fechahora dataordine besteldatum "
        "datazamowienia createdat orderedat purchasedat placedat hittimegmt originaltimestamp tdat",
        0.85: "date ts datum fecha eventdate heure hora data tijd data czas czasy moment paidat hittime "
        "datetimeutc localtime 时间 日時 时间戳",
        0.5: "receivedat senttime sentat day",
    },
    "event_type": {
        1.0: "eventtype eventname event behavior behaviour behaviortype ereignis ereignistyp evenement "
        "evento tipoevento useraction",
        0.9: "action actiontype activity aktion aktionstyp accion azione actie akcja eventaction interaction "
        "zdarzenie activitytype 行为 事件 イベント",
        0.8: "type verb typ tipo eventlist posteventlist activityname",
        0.6: "status orderstatus financialstatus state statut estado stato bestellstatus",
    },
    "item_id": {
        1.0: "itemid productid sku articleid articlenumber artikelid artikelnummer artikelnr produktid "
        "idproduit idproducto productoid idprodotto asin stockcode goodsid itemsku productsku idproduktu "
        "商品id",
        0.9: "aid artikel produkt produit producto prodotto articolo articulo product item article variantid "
        "contentid gtin ean referencia referentie towar",
        0.6: "productcode itemcode upc isbn productlist postproductlist",
    },
    "price": {
        1.0: "price unitprice itemprice preis einzelpreis prix prixunitaire precio preciounitario prezzo "
        "prijs cena saleprice sellingprice 价格 価格",
        0.7: "amount betrag montant importe importo bedrag kwota revenue grandtotal linetotal rowtotal "
        "totalprice baseprice umsatz",
        0.5: "total value sales subtotal ordertotal totalamount turnover",
    },
    "quantity": {
        1.0: "quantity qty menge anzahl stueck stueckzahl quantite cantidad quantita aantal ilosc qtyordered "
        "数量",
        0.7: "units pieces count itemcount",
    },
    "order_id": {
        1.0: "orderid ordernumber orderno transactionid invoiceno invoiceid invoicenumber receiptid "
        "bestellnummer bestellnr auftragsnummer numerocommande commandeid idcommande idpedido "
        "numeropedido pedidoid idordine ordernummer bestelnummer purchaseid postpurchaseid orderref "
        "incrementid 订单id 注文id",
        0.85: "order transaction invoice receipt bestellung auftrag commande pedido ordine zamowienie "
        "basketid cartid rechnungsnummer bonnr",
    },
    "currency": {
        1.0: "currency currencycode waehrung devise moneda valuta currencyiso 通貨 货币",
    },
    "session_id": {
        1.0: "sessionid visitid idvisit usersession gasessionid sitzungsid sitzung sessionnumber",
        0.9: "session visit sesion sessione sid",
    },
    "category": {
        1.0: "category categorycode categoryid kategorie categorie categoria itemcategory productcategory",
        0.7: "department warengruppe section producttype kategoria",
    },
    "brand": {
        1.0: "brand marke marque marca merk itembrand",
        0.6: "manufacturer hersteller vendor",
    },
    "platform": {
        1.0: "platform plattform plateforme plataforma piattaforma",
        0.6: "os osname operatingsystem devicetype operatingsystemname",
    },
    "event_id": {
        1.0: "eventid insertid messageid eventuuid hitid",
        0.85: "uuid logid rowid rowkey recordid",
        0.5: "id lineid",
    },
}


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_SINGLE_LETTERS = {
    "u": "user_id",
    "t": "event_time",
    "e": "event_type",
    "p": "price",
    "q": "quantity",
    "i": "item_id",
}
_DESCRIBING = word_set(
    "name group type address city country region status language age gender segment url uri agent title "
    "description first last birth phone text label level ip lat lng screen email mail attribution"
)
"""Words after which a column describes a user, an item or an order instead of identifying it."""

_GENERIC = word_set("id uuid key name type code number no nr value amount date time timestamp at ts")
"""Words of keys of nested values that mean something only with the key before them."""

_CONTAINERS = word_set(
    "properties property data payload attributes params parameters details detail context body message "
    "record row fields meta metadata info traits content value values source document"
)
"""Words of keys that only hold others."""

_STRONG = 0.85
"""Score from which the key before a generic one decides what it means."""

_ANONYMOUS = word_set(
    "device anonymous anon cookie browser installation visitor visid pseudo guest session appareil geraet "
    "besucher visiteur visitante bezoeker fingerprint"
)
"""Words of the names of ids before a login."""

_TIME_WORDS = word_set("time date timestamp at zeit datum duration")
"""Words with which a column is no id."""

_COUNTERS = word_set("num number count nr no")
"""Words with which a column counts the sessions of a user instead of identifying them."""

_OTHER_TIMES = word_set(
    "first last birth birthday creation creating created updated modified upload uploaded processed "
    "processing received server sent expiry expires start started end ended registered registration "
    "signup visit delivery shipped shipping release pretty api local duration spent"
)
"""Words with which a time is not that of the event."""

_OTHER_AMOUNTS = word_set(
    "refund refunded refunds discount discounts rabatt remise tax taxes vat mwst steuer shipping versand "
    "porto freight delivery cost costs fee fees tip coupon voucher erstattet"
)
"""Words with which an amount is not what was paid for an item or an order."""

_AFTER_OTHERS = word_set("incl including inclusive excl excluding with without ex net gross after before inc")
"""Words with which it is: `total_incl_tax`."""


def words(name: str) -> list[str]:
    """The words of a column name in lower case, without accents.

    >>> words("itemSKU"), words("Grand Total (Base)"), words("$insert_id"), words("Währung")
    (['item', 'sku'], ['grand', 'total', 'base'], ['insert', 'id'], ['waehrung'])
    """
    # "Währung": an accent must not split a word, so letters are folded first.
    folded = "".join(_FOLDED.get(char, _FOLDED.get(char.lower(), char)) for char in name)
    plain = unicodedata.normalize("NFKD", folded)
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return [word.lower() for word in _WORD.findall(plain)]


def leaf(path: str) -> str:
    """The last key of a path: `properties.items[].sku` is `sku`, and `order.items[]` is `items`."""
    return _keys(path)[-1]


def qualified_name(path: str) -> str:
    """The last key of a path, after the key before it where it says little alone.

    >>> qualified_name("order.items[].id"), qualified_name("properties.id"), qualified_name("user.email")
    ('item id', 'id', 'email')
    """
    *parents, short = _keys(path)
    if not parents or not set(words(short)) <= _GENERIC or set(words(parents[-1])) & _CONTAINERS:
        return short
    return f"{parents[-1].removesuffix('s')} {short}"


def _keys(path: str) -> list[str]:
    return [key for key in re.split(r"\.|\[[^\]]*\]", path) if key] or [path]


@cache
def name_scores(name: str) -> dict[str, float]:
    """How strongly a column's name (of a path its last key) suggests each event field, from 0 to 1.

    >>> name_scores("properties.items[].product_id")["item_id"], name_scores("Kundennummer")["user_id"]
    (1.0, 1.0)
    """
    short, qualified = leaf(name), qualified_name(name)
    if qualified != short:
        scores, strong = _name_scores(short), _name_scores(qualified)
        if max(strong.values(), default=0.0) < _STRONG:
            return {field: max(scores.get(field, 0.0), strong.get(field, 0.0)) for field in scores | strong}
        return {field: max(score, scores.get(field, 0.0)) for field, score in strong.items()}
    return _name_scores(short)


def _name_scores(short: str) -> dict[str, float]:
    plain = re.sub(r"\s*\(.*?\)\s*$", "", short)
    if plain and plain != short:
        return {field: round(score * _QUALIFIED, 4) for field, score in _name_scores(plain).items()}
    name_words = words(short)
    if not name_words:
        return {}
    if len(name_words) == 1 and len(name_words[0]) == 1:
        field = _SINGLE_LETTERS.get(name_words[0])
        return {field: _SINGLE} if field else {}
    scores = {field: _score(field, name_words) for field in _NAMES}
    return {field: score for field, score in scores.items() if score}


def _score(field: str, name_words: list[str]) -> float:
    lookup = _lookup(field)
    compact = "".join(name_words)
    if exact := _exact_score(field, lookup, compact):
        return exact
    best = _partial_score(lookup, name_words)
    if field == "session_id" and _COUNTERS & set(name_words):
        return 0.0
    if field in {"event_time", "price"}:
        return best * (0.4 if _is_of_something_else(field, name_words) else 1.0)
    is_id = field in {"user_id", "item_id", "order_id", "session_id", "event_id"}
    if is_id and _TIME_WORDS & set(name_words):
        return 0.0
    if field != "event_type" and _DESCRIBING & set(name_words) - ({"email", "mail"} if is_id else set()):
        return 0.0 if is_id else best * 0.5
    return best


def _is_of_something_else(field: str, name_words: list[str]) -> bool:
    """Whether a time is not that of the event, or an amount a refund or tax."""
    if field == "event_time":
        return bool(_OTHER_TIMES & set(name_words))
    other = _OTHER_AMOUNTS & set(name_words) - ({"discount"} if "price" in name_words else set())
    return bool(other) and not _AFTER_OTHERS & set(name_words)


def _exact_score(field: str, lookup: dict[str, float], compact: str) -> float:
    """The score of a whole name; of goods and events also in the plural."""
    singular = compact.removesuffix("s") if field in {"item_id", "event_type"} else compact
    return lookup.get(compact, 0.0) or _PLURAL * lookup.get(singular, 0.0)


def _partial_score(lookup: dict[str, float], name_words: list[str]) -> float:
    """The best score of a part of a name: its end, its beginning, or one word inside."""
    best = 0.0
    for count in range(1, len(name_words)):
        best = max(best, _SUFFIX * lookup.get("".join(name_words[count:]), 0.0))
        best = max(best, _PREFIX * lookup.get("".join(name_words[:count]), 0.0))
    return max([best, *(_INSIDE * lookup.get(part, 0.0) for part in name_words[1:-1])])


@cache
def _lookup(field: str) -> dict[str, float]:
    return {word: score for score, entries in _NAMES[field].items() for word in reversed(entries.split())}


def is_known_name(name: str) -> bool:
    """Whether a text is a usual column name."""
    return max(name_scores(name).values(), default=0.0) >= 0.5


def is_anonymous_id(name: str) -> bool:
    """Whether a column has the ids of devices, browsers or visitors that are not logged in."""
    return bool(_ANONYMOUS & set(words(qualified_name(name))))


def is_of_another_time(name: str) -> bool:
    """Whether a time column is not that of the event, but of an upload, a birth, an update, ..."""
    return bool(_OTHER_TIMES & set(words(leaf(name)))) and name_scores(name).get("event_time", 0) < 0.9
