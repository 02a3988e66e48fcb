package web

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// Limit bounds what one merchant's requests take of this process at a time.
type Limit struct {
	AtWork  int           // requests that are worked on; below half of the database connections
	Waiting int           // requests that wait for one of those places
	Wait    time.Duration // how long one waits
}

// LimitMerchant lets each merchant have its own places. A merchant whose requests wait for
// one key or one locked row would otherwise take every database connection, and all the
// others would wait with it. What finds neither a place to work nor one to wait is
// refused: 429 with Retry-After. It goes behind RequireMerchant.
func LimitMerchant(l Limit) echo.MiddlewareFunc {
	type places struct{ all, work chan struct{} }
	var merchants sync.Map // id -> places; as many as there are merchants with a key
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			stored, _ := merchants.LoadOrStore(MerchantID(c), places{make(chan struct{}, l.AtWork+l.Waiting), make(chan struct{}, l.AtWork)})
			p, _ := stored.(places)
			select {
			case p.all <- struct{}{}:
				defer func() { <-p.all }()
			default:
				return l.tooMany()
			}
			timeout := time.NewTimer(l.Wait)
			defer timeout.Stop()
			select {
			case p.work <- struct{}{}:
				defer func() { <-p.work }()
				return next(c)
			case <-timeout.C:
				return l.tooMany()
			case <-c.Request().Context().Done():
				return c.Request().Context().Err()
			}
		}
	}
}

func (l Limit) tooMany() error {
	return NewProblem(http.StatusTooManyRequests, "too-many-requests", "Too many requests at once",
		fmt.Sprintf("At most %d requests of yours are worked on at the same time. Send this one again later.", l.AtWork)).WithRetryAfter(time.Second)
}
