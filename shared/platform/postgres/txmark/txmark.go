// Package txmark marks a context that carries an open database transaction.
//
// The mark is a package of its own, without imports, so that the HTTP client
// and the broker client can look for it without knowing the database.
package txmark

import "context"

type key struct{}

// Mark returns a context that says: a transaction is open here.
func Mark(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, true)
}

// InTransaction tells whether ctx carries an open transaction.
func InTransaction(ctx context.Context) bool {
	return ctx.Value(key{}) != nil
}
