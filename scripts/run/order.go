package main

// howToOrder is what to type next.
const howToOrder = `
Place an order (paste into another terminal, in this directory):

  set -a; . .run/env; set +a
  TOKEN=$(curl -s $SANDBOX_URL/v1/tokens -H 'Content-Type: application/json' -d '{"card":"4242424242424242"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -si $ORDERS_URL/v1/orders -H "Authorization: Bearer $MERCHANT_KEY" -H 'Idempotency-Key: my-first-order' \
    -H 'Content-Type: application/json' \
    -d '{"customer_id":"cus_1","items":[{"sku":"mug","quantity":2}],"payment_token":"'$TOKEN'","callback_url":"'$SANDBOX_URL'/merchant/webhooks/mer_acme"}'

Send the last command again: the same answer, and Idempotent-Replayed: true.
`
