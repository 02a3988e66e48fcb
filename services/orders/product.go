package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// product is a row of products, as far as the outside sees it.
type product struct {
	SKU       string
	Name      string
	Price     money.Money
	Available int64
	Version   int64
}

type productView struct {
	SKU   string      `json:"sku"`
	Name  string      `json:"name"`
	Price money.Money `json:"price"`
	Stock int64       `json:"stock"`
}

func (p product) view() productView {
	return productView{SKU: p.SKU, Name: p.Name, Price: p.Price, Stock: p.Available}
}

// etag is the row's version. A sale changes the stock that the client sees, so
// it changes the version too: an editor who saw "5 left" and writes "15" must
// not wipe out the three that were sold meanwhile.
func (p product) etag() string { return `"` + strconv.FormatInt(p.Version, 10) + `"` }

const selectProduct = `
	SELECT sku, name, price_minor, currency, available, version
	  FROM products`

func scanProduct(row pgx.CollectableRow) (product, error) {
	var p product
	err := row.Scan(&p.SKU, &p.Name, &p.Price.Minor, &p.Price.Currency, &p.Available, &p.Version)
	return p, err
}

// loadProducts queues the read of some products into found, by SKU.
func loadProducts(b *pgx.Batch, merchant string, skus []string, found map[string]product) {
	b.Queue(selectProduct+`
		 WHERE merchant_id = $1
		   AND sku = ANY($2)`,
		merchant, skus,
	).Query(func(rows pgx.Rows) error {
		products, err := pgx.CollectRows(rows, scanProduct)
		for _, p := range products {
			found[p.SKU] = p
		}
		return err
	})
}

// skuOf reads the SKU from the path.
func skuOf(c echo.Context) (string, error) {
	sku := c.Param("sku")
	return sku, text("sku", sku)
}

// getProduct shows a product with its version as ETag: GET /v1/products/{sku}.
func (s *service) getProduct(c echo.Context) error {
	sku, err := skuOf(c)
	if err != nil {
		return err
	}
	p, err := s.findProduct(c.Request().Context(), web.MerchantID(c), sku)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", p.etag())
	return c.JSON(http.StatusOK, p.view())
}

func (s *service) findProduct(ctx context.Context, merchant, sku string) (product, error) {
	rows, _ := s.db.Query(ctx, selectProduct+`
		 WHERE merchant_id = $1
		   AND sku = $2`,
		merchant, sku)
	p, err := pgx.CollectExactlyOneRow(rows, scanProduct)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, web.NewProblem(http.StatusNotFound, "no-such-product", "No such product", fmt.Sprintf("There is no product %q.", sku))
	}
	return p, err
}

// listProducts shows the products in the order of the SKUs: GET /v1/products?limit&cursor.
// The cursor is the last SKU seen.
func (s *service) listProducts(c echo.Context) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	after := c.QueryParam("cursor")
	if after != "" && text("cursor", after) != nil {
		return web.Invalid("cursor", "Must be the next_cursor of an earlier page.")
	}
	rows, _ := s.db.Query(c.Request().Context(), selectProduct+`
		 WHERE merchant_id = $1
		   AND sku > $2
		 ORDER BY sku
		 LIMIT $3`,
		web.MerchantID(c), after, limit+1)
	products, err := pgx.CollectRows(rows, scanProduct)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, newPage(products, limit, product.view, func(p product) string { return p.SKU }))
}

// editProduct is the body of PUT /v1/products/{sku}.
type editProduct struct {
	Name  string      `json:"name"`
	Price money.Money `json:"price"`
	Stock *int64      `json:"stock"`
}

const (
	// maxStock keeps sums of stock far from overflow.
	maxStock = 1_000_000_000

	// maxMinor bounds a price, and the total of an order, to what thousands of them
	// can be added up from without overflow. The books of an account are such a sum.
	maxMinor = 1_000_000_000_000_000
)

// Validate checks what can be checked without the database.
func (e editProduct) Validate() error {
	if err := text("name", e.Name); err != nil {
		return err
	}
	if err := e.Price.Validate(); err != nil {
		return web.Invalid("price", err.Error())
	}
	if e.Price.Minor <= 0 || e.Price.Minor > maxMinor {
		return web.Invalid("price.minor", fmt.Sprintf("Must be above zero and at most %d.", maxMinor))
	}
	if e.Stock == nil || *e.Stock < 0 || *e.Stock > maxStock {
		return web.Invalid("stock", fmt.Sprintf("Required, between 0 and %d.", maxStock))
	}
	return nil
}

// putProduct replaces a product: PUT /v1/products/{sku}. `If-Match` says which
// version the editor saw; `If-None-Match: *` says that it should not exist yet.
// One of them is required: a blind write would undo what somebody else, or a
// sale, changed since.
//
// Pattern: atomic-read-then-write (the version travels through the client and back)
func (s *service) putProduct(c echo.Context) error {
	ctx := c.Request().Context()
	in, err := web.Bind[editProduct](c)
	if err != nil {
		return err
	}
	sku, err := skuOf(c)
	if err != nil {
		return err
	}
	values := []any{web.MerchantID(c), sku, in.Name, in.Price.Minor, in.Price.Currency, *in.Stock}
	// Condition and write are one statement: of two editors who saw the same version, the
	// row's lock lets one go first, and the other finds no such version any more.
	write := `
		UPDATE products
		   SET name        = $3,
		       price_minor = $4,
		       currency    = $5,
		       initial     = initial + $6 - available,
		       available   = $6,
		       version     = version + 1
		 WHERE merchant_id = $1
		   AND sku = $2
		   AND ($7::bigint[] IS NULL OR version = ANY($7))
		RETURNING sku, name, price_minor, currency, available, version`
	create, match := c.Request().Header.Get("If-None-Match") == "*", strings.Join(c.Request().Header.Values("If-Match"), ",")
	switch {
	case create:
		write = `
		INSERT INTO products (merchant_id, sku, name, price_minor, currency, available, initial)
		VALUES ($1, $2, $3, $4, $5, $6, $6)
		    ON CONFLICT DO NOTHING
		RETURNING sku, name, price_minor, currency, available, version`
	case match == "":
		return web.NewProblem(http.StatusPreconditionRequired, "precondition-required", "If-Match required",
			"Send the ETag of the version you edited in If-Match, or If-None-Match: * to create the product.")
	case match == "*":
		values = append(values, nil) // whatever its version is
	default:
		values = append(values, versionsOf(match))
	}
	var written []product
	err = postgres.Write(ctx, s.db, func(b *pgx.Batch) {
		b.Queue(write, values...).Query(func(rows pgx.Rows) (err error) {
			written, err = pgx.CollectRows(rows, scanProduct)
			return err
		})
	})
	if err != nil {
		return err
	}
	if len(written) == 0 {
		return s.whyNoMatch(c, sku)
	}
	c.Response().Header().Set("ETag", written[0].etag())
	if create {
		c.Response().Header().Set(echo.HeaderLocation, "/v1/products/"+url.PathEscape(sku))
		return c.JSON(http.StatusCreated, written[0].view())
	}
	return c.JSON(http.StatusOK, written[0].view())
}

// versionsOf reads a list of ETags. One that we never gave out matches nothing.
func versionsOf(match string) []int64 {
	versions := []int64{}
	for tag := range strings.SplitSeq(match, ",") {
		tag = strings.TrimSpace(tag)
		version, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
		if err == nil && tag == (product{Version: version}).etag() {
			versions = append(versions, version)
		}
	}
	return versions
}

// whyNoMatch tells a missing product (404) from a stale version (412).
func (s *service) whyNoMatch(c echo.Context, sku string) error {
	p, err := s.findProduct(c.Request().Context(), web.MerchantID(c), sku)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", p.etag())
	return web.NewProblem(http.StatusPreconditionFailed, "stale-version", "The product has changed",
		"Somebody changed the product, or a unit was sold, since you read it. Read it again and repeat your edit.")
}
