package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// callBack is one attempt of a shop to reach the merchant.
func (w *world) callBack(merchant, secret, id, body string) (int, error) {
	w.t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	must(w.t, err)
	at := time.Now()
	signature, err := signer.Sign(id, at, []byte(body))
	must(w.t, err)
	req, err := http.NewRequest(http.MethodPost, w.url+"/merchant/webhooks/"+merchant, strings.NewReader(body))
	must(w.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestMerchant_KeepsEveryCallbackAttemptWithItsAnswer(t *testing.T) {
	t.Parallel()
	w := start(t)
	const body = `{"type":"order.confirmed","data":{"id":"ord_1","status":"confirmed"}}`
	w.misbehave(`{"contract":"merchant","fault":"refuse","times":1},{"contract":"merchant","fault":"lose_answer","times":1}`)
	status, err := w.callBack("mer_acme", testSecret, "msg_1", body)
	must(t, err)
	equal(t, "refused", status, 503)
	if _, err := w.callBack("mer_acme", testSecret, "msg_1", body); err == nil {
		t.Error("the answer came")
	}
	status, err = w.callBack("mer_acme", testSecret, "msg_1", body)
	must(t, err)
	equal(t, "taken", status, 204)

	attempts := w.call("GET", "/merchant/callbacks?order_id=ord_1", "", "").list(t)
	equal(t, "attempts", len(attempts), 3)
	for i, answered := range []float64{503, 0, 204} {
		equal(t, "answered", attempts[i]["answered"].(float64), answered)
		equal(t, "webhook_id", attempts[i]["webhook_id"].(string), "msg_1")
		equal(t, "signature_valid", attempts[i]["signature_valid"].(bool), true)
		equal(t, "body", attempts[i]["body"].(string), body)
	}
}

func TestMerchant_RefusesAndKeepsAForgedCallback(t *testing.T) {
	t.Parallel()
	w := start(t)
	status, err := w.callBack("mer_acme", "whsec_"+strings.Repeat("QUFB", 10), "msg_1", `{"data":{"order_id":"ord_2","id":"other"}}`)
	must(t, err)
	equal(t, "forged", status, 401)
	attempts := w.call("GET", "/merchant/callbacks?order_id=ord_2", "", "").list(t)
	equal(t, "attempts", len(attempts), 1)
	equal(t, "signature_valid", attempts[0]["signature_valid"].(bool), false)

	status, err = w.callBack("mer_nobody", testSecret, "msg_1", `{}`)
	must(t, err)
	equal(t, "unknown merchant", status, 404)
	w.client = http.DefaultClient // the document describes JSON only, and holds other callers to it
	status, err = w.callBack("mer_acme", testSecret, "msg_2", `not JSON, "data":{"id":"a\u0000b"}`)
	must(t, err)
	equal(t, "signed nonsense", status, 204)
	equal(t, "without an order", w.call("GET", "/merchant/callbacks", "", "").status, 422)
}

func TestMerchant_KeepsNothingWhileItIsDown(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.misbehave(`{"contract":"merchant","fault":"fail_before","times":1}`)
	status, err := w.callBack("mer_acme", testSecret, "msg_1", `{"data":{"id":"ord_3"}}`)
	must(t, err)
	equal(t, "status", status, 500)
	equal(t, "attempts", len(w.call("GET", "/merchant/callbacks?order_id=ord_3", "", "").list(t)), 0)
}
