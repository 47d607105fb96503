"""Canonical event types of the names that shops and trackers use, in several languages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from retail_core.schemas import EVENT_TYPES
from retail_core.sources.detection.column_names import word_set, words

_PURCHASE = word_set(
    "purchase purchased buy bought order ordered transaction sale kauf kaufen gekauft kaufte bestellung "
    "bestellt achat achete commande compra comprar comprado pedido acquisto ordine aankoop gekocht "
    "bestelling zakup zakupy zamowienie koupit paid 购买 購入 покупка заказ"
)
_REFUND = word_set(
    "refund refunded return returned storno erstattung retoure rueckgabe ruecksendung remboursement "
    "retour devolucion reembolso rimborso reso zwrot terugbetaling 退款 返品 возврат"
)
_CART = word_set(
    "cart carts basket bag addtocart warenkorb panier carrito cesta carrello winkelwagen winkelmand "
    "koszyk 加购 カート корзина корзину"
)
_WISH = word_set(
    "wishlist fav favorite favourite favorites merkliste wunschliste merkzettel favori favoris favorito "
    "deseos preferiti verlanglijst like liked 收藏"
)
_CHECKOUT = word_set("checkout kasse caisse afrekenen kassa")
_SEARCH = word_set(
    "search searched searches suche gesucht recherche busqueda buscar ricerca zoeken szukaj 搜索 検索 поиск"
)
_VIEW = word_set(
    "view viewed views pv detail details pdp click clicked clicks ansicht angesehen produktansicht vue "
    "vista visualizacion visualizzazione bekeken bekijken wyswietlenie просмотр 浏览 閲覧 show viewitem "
    "viewproduct"
)
_LIST = word_set("list category kategorie categorie categoria plp listing collection")
_PAGE = word_set("page pageview screen seite seitenaufruf pagina screenview pageviews")
_REMOVE = word_set(
    "remove removed delete deleted entfernt entfernen supprimer retirer eliminar quitar rimosso rimuovi "
    "verwijderd verwijderen usun removefromcart"
)
_NEGATION = word_set(
    "abandoned abandon cancel cancelled canceled cancellation storniert abgebrochen failed fail error "
    "declined pending update updated cancelado annule annulled"
)
_ADD = word_set("add added hinzugefuegt ajoute ajout agregar anadido aggiunto toegevoegd dodano in")
_COMPACT = {
    "addtocart": "add_to_cart",
    "removefromcart": "remove_from_cart",
    "addtowishlist": "add_to_wishlist",
    "pageview": "screen_view",
    "screenview": "screen_view",
    "sessionstart": "session_start",
    "sessionstarted": "session_start",
    "visitstart": "session_start",
    "productadded": "add_to_cart",
    "itemadded": "add_to_cart",
    "productremoved": "remove_from_cart",
    "begincheckout": "begin_checkout",
    "initiatecheckout": "begin_checkout",
    "productview": "view_item",
    "productlistviewed": "view_item_list",
    "checkoutcompleted": "purchase",
    "ordercompleted": "purchase",
    "scadd": "add_to_cart",
    "scremove": "remove_from_cart",
    "sccheckout": "begin_checkout",
    "prodview": "view_item",
    "pv": "view_item",
    "buy": "purchase",
}

Parts = frozenset[str]
_RULES: tuple[tuple[str | None, Callable[[Parts], bool]], ...] = (
    (None, lambda name_words: bool(name_words & _NEGATION)),
    ("refund", lambda name_words: bool(name_words & _REFUND)),
    ("add_to_wishlist", lambda name_words: bool(name_words & _WISH) and not name_words & (_REMOVE | _VIEW)),
    ("remove_from_cart", lambda name_words: bool(name_words & _CART and name_words & _REMOVE)),
    ("add_to_cart", lambda name_words: bool(name_words & _CART) and not name_words & (_VIEW | _PAGE)),
    (
        "begin_checkout",
        lambda name_words: (
            bool(name_words & _CHECKOUT) and len(name_words) <= 3 and not name_words & (_PAGE | {"step"})
        ),
    ),
    (None, lambda name_words: bool(name_words & _PURCHASE and name_words & (_VIEW | _PAGE | _SEARCH))),
    ("purchase", lambda name_words: bool(name_words & _PURCHASE) and len(name_words) <= 4),
    ("search", lambda name_words: bool(name_words & _SEARCH) and not name_words & _VIEW),
    ("view_item_list", lambda name_words: bool(name_words & _VIEW and name_words & _LIST)),
    (
        "screen_view",
        lambda name_words: bool(name_words & _PAGE) and bool(name_words & _VIEW or len(name_words) == 1),
    ),
    (None, lambda name_words: bool(name_words & _CART)),
    ("view_item", lambda name_words: bool(name_words & _VIEW) and len(name_words) <= 3),
)

_BOUGHT = word_set(
    "paid complete completed processing shipped delivered fulfilled closed bezahlt versendet abgeschlossen "
    "partiallypaid authorized payee enviado pagado terminee onhold partiallyrefunded"
)
_GIVEN_BACK = word_set("refunded erstattet returned remboursee")
_NOT_BOUGHT = word_set(
    "canceled cancelled storniert voided void failed pending pendingpayment offen expired annulee cancelado "
    "paymentreview fraud"
)
ORDER_STATUS: dict[str, str | None] = {
    **dict.fromkeys(_BOUGHT, "purchase"),
    **dict.fromkeys(_GIVEN_BACK, "refund"),
    **dict.fromkeys(_NOT_BOUGHT, None),
}
"""Event type by the status of an order; None leaves the order out: nobody has bought."""

UNSURE_STATUS = frozenset(
    {"closed", "onhold", "pending", "pendingpayment", "authorized", "partiallyrefunded"}
)
"""States of an order that shops use differently."""


@cache
def canonical_event(name: str) -> str | None:
    """The canonical type that a raw event name means, None if it is unknown.

    >>> [canonical_event(name) for name in ("Product Added", "buy", "Warenkorb", "ecommerceAbandonedCart")]
    ['add_to_cart', 'purchase', 'add_to_cart', None]
    """
    if name in EVENT_TYPES:
        return name
    name_words = words(name)
    compact = "".join(name_words)
    if compact in _COMPACT:
        return _COMPACT[compact]
    if "_".join(name_words) in EVENT_TYPES:
        return "_".join(name_words)
    distinct_words = frozenset(name_words)
    if not distinct_words or len(name_words) > 6:
        return None
    if (
        distinct_words & {"product", "item", "produkt", "products"}
        and distinct_words & _ADD
        and not distinct_words & (_WISH | _REMOVE)
    ):
        return "add_to_cart"
    return next((event_type for event_type, holds in _RULES if holds(distinct_words)), None)


def order_status(name: str) -> bool:
    """Whether a text is a status of an order, such as `Complete` or `refunded`."""
    return "".join(words(name)) in ORDER_STATUS


def status_event(name: str) -> str | None:
    """The event type of an order with this status; None leaves it out."""
    return ORDER_STATUS.get("".join(words(name)), "purchase")


def is_unsure_status(name: str) -> bool:
    """Whether shops use this status of an order differently."""
    return "".join(words(name)) in UNSURE_STATUS
