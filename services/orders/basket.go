package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
)

// What one order may hold. The limits are far above a real basket and far below
// what would overflow a sum or hold the stock of a shop.
const (
	maxItems    = 50
	maxQuantity = 10_000
	maxText     = 255
)

// newOrder is the body of POST /v1/orders.
type newOrder struct {
	CustomerID   string `json:"customer_id"`
	Items        []item `json:"items"`
	PaymentToken string `json:"payment_token"`
	CallbackURL  string `json:"callback_url"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Validate checks what can be checked without the database. Every complaint
// names the field, so that a client can show it where it belongs.
func (n newOrder) Validate() error {
	if err := text("customer_id", n.CustomerID); err != nil {
		return err
	}
	if err := text("payment_token", n.PaymentToken); err != nil {
		return err
	}
	if len(n.Items) == 0 || len(n.Items) > maxItems {
		return web.Invalid("items", fmt.Sprintf("Give between 1 and %d items.", maxItems))
	}
	seen := map[string]bool{}
	for i, it := range n.Items {
		field := fmt.Sprintf("items[%d]", i)
		if err := text(field+".sku", it.SKU); err != nil {
			return err
		}
		if seen[it.SKU] {
			return web.Invalid(field+".sku", fmt.Sprintf("%q stands here twice; give each SKU once, with its whole quantity.", it.SKU))
		}
		seen[it.SKU] = true
		if it.Quantity < 1 || it.Quantity > maxQuantity {
			return web.Invalid(field+".quantity", fmt.Sprintf("Must be between 1 and %d.", maxQuantity))
		}
	}
	return nil
}

func text(field, value string) error {
	switch {
	case strings.TrimSpace(value) == "":
		return web.Invalid(field, "Required.")
	case len(value) > maxText:
		return web.Invalid(field, fmt.Sprintf("At most %d bytes.", maxText))
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		// They have no place in an id, and would break the lines that name it.
		return web.Invalid(field, "Control characters are not allowed.")
	}
	return nil
}

// priced is a line of an order with the price it was accepted at.
type priced struct {
	SKU       string      `json:"sku"`
	Quantity  int         `json:"quantity"`
	UnitPrice money.Money `json:"unit_price"`
}

// price looks up each item among the products read and adds up the total.
// Lines come back sorted by SKU: every order locks its rows of products in that order, so two
// baskets with the same items cannot deadlock. (A commit group holds several baskets, one after
// the other. It waits a moment only, and writes again without the basket that waited.)
func price(items []item, products map[string]product) (lines []priced, total money.Money, err error) {
	for i, it := range items {
		field := fmt.Sprintf("items[%d]", i)
		p, ok := products[it.SKU]
		if !ok {
			return nil, total, web.NewProblem(http.StatusUnprocessableEntity, "unknown-sku", "No such product",
				fmt.Sprintf("There is no product %q.", it.SKU)).WithField(field + ".sku")
		}
		if total.Currency != "" && total.Currency != p.Price.Currency {
			return nil, total, web.NewProblem(http.StatusUnprocessableEntity, "mixed-currencies", "One order, one currency",
				fmt.Sprintf("%q is priced in %s, the items before it in %s.", it.SKU, p.Price.Currency, total.Currency)).WithField(field + ".sku")
		}
		if p.Available < int64(it.Quantity) {
			return nil, total, outOfStock(field, it.SKU)
		}
		amount, err := p.Price.Times(int64(it.Quantity))
		if err == nil && total.Currency != "" {
			amount, err = total.Add(amount)
		}
		if err != nil || amount.Minor > maxMinor {
			return nil, total, web.Invalid(field+".quantity", "The total is too large.")
		}
		total = amount
		lines = append(lines, priced{SKU: it.SKU, Quantity: it.Quantity, UnitPrice: p.Price})
	}
	slices.SortFunc(lines, func(a, b priced) int { return strings.Compare(a.SKU, b.SKU) })
	return lines, total, nil
}

func outOfStock(field, sku string) error {
	return web.NewProblem(http.StatusConflict, "out-of-stock", "Not enough in stock",
		fmt.Sprintf("There are not enough of %q left.", sku)).WithField(field + ".quantity")
}
