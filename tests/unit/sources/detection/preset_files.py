"""A small file of each preset without a vendor's export in `vendor_exports`."""

from __future__ import annotations

PRESET_FILES = {
    "taobao": "1,2268318,2520377,pv,1511544070\n1,2268318,2520377,buy,1511544071\n",
    "rees46": "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    "2019-10-01 00:00:00 UTC,view,44600062,21038,,shiseido,35.79,541312140,s1\n"
    "2019-10-01 00:01:00 UTC,cart,44600062,21038,,shiseido,35.79,541312140,s1\n"
    "2019-10-01 00:02:00 UTC,purchase,44600062,21038,,shiseido,35.79,541312140,s1\n",
    "retailrocket": "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
    "1433221332118,257597,addtocart,355908,\n1433221332119,257597,transaction,355908,4000\n",
    "online_retail": "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    "536365,85123A,LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n",
    "otto": '{"session": 1, "events": [{"aid": 5, "ts": 1661724000278, "type": "clicks"}]}\n'
    '{"session": 2, "events": [{"aid": 5, "ts": 1661724000279, "type": "orders"}]}\n'
    '{"session": 3, "events": [{"aid": 5, "ts": 1661724000280, "type": "carts"}]}\n',
    "ga4": "event_timestamp,event_name,user_pseudo_id\n1735725600123456,purchase,p1\n"
    "1735725600123457,view_item,p1\n1735725600123458,add_to_cart,p1\n",
    "canonical": "user_id,event_time,event_type\nu1,2025-01-01T10:00:00Z,view_item\n"
    "u1,2025-01-01T10:01:00Z,purchase\nu1,2025-01-01T10:02:00Z,refund\n",
    "app_profile": "user_id,first_visit_date,screen_list,purchase_date\n1,4/29/23,ProductDetail,\n",
    "identities": "from_id,to_id,linked_at\na1,k1,2025-01-01T10:00:00Z\na2,k1,2025-01-02T10:00:00Z\n",
}
"""Content by preset."""
