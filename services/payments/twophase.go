package main

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/platform/web"
)

// This service as a participant of its own distributed transactions.

func (s *service) commitHere(ctx context.Context, gid string) error {
	return distributedtx.Commit(ctx, s.db, localPrefix+gid)
}

func (s *service) rollbackHere(ctx context.Context, gid string) error {
	return distributedtx.Rollback(ctx, s.db, localPrefix+gid)
}

// decisionOn answers a participant that is in doubt: GET /2pc/{gid}. It asks
// after it has waited for longer than any coordinator needs. If nothing is
// decided by then, it is decided now, and it is a no: presumed abort.
func (s *service) decisionOn(c echo.Context) error {
	gid := c.Param("gid")
	if !distributedtx.ValidGID(gid) {
		return web.NewProblem(http.StatusNotFound, "no-such-transaction", "No such transaction", "This is not a name of ours.")
	}
	decision, err := s.twophase.Decide(c.Request().Context(), gid)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]distributedtx.Decision{"decision": decision})
}
