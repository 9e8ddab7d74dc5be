package edgetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
)

type gauge struct{ Limit float64 }

// echo sends back what it gets, and counts.
type echo struct{}

func (echo) Run(ctx context.Context, c *edge.Client) error {
	c.HandleDesired(func(_ context.Context, p any) error {
		if p.(*gauge).Limit < 0 {
			return errors.New("the limit is negative")
		}
		return nil
	})
	c.HandleMethod("double", func(_ context.Context, payload json.RawMessage) (int, any) {
		return 200, string(payload) + string(payload)
	})
	c.HandleInput("in", func(ctx context.Context, m message.Message) error {
		c.Count("echoed", 1)
		return c.Send(ctx, "out", m)
	})
	c.Healthy()
	<-ctx.Done()
	return nil
}

func TestHarness(t *testing.T) {
	h := edgetest.Start(t, edge.Kind{
		Name: "echo", Inputs: []string{"in"},
		Properties: func() any { return &gauge{Limit: 1} },
		New:        func(any) (edge.Module, error) { return echo{}, nil },
	}, nil, `{"Limit":2}`)

	h.None("out")
	if err := h.Send("in", message.Message{Body: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	if m := h.Next("out"); string(m.Body) != "hello" {
		t.Errorf("body %q", m.Body)
	}
	h.Refuse(func(string, message.Message) error { return errors.New("store is full") })
	if err := h.Send("in", message.Message{}); err == nil || !strings.Contains(err.Error(), "store is full") {
		t.Errorf("the refusal came back as %v", err)
	}
	if err := h.SetDesired(`{"Limit":-1}`); err == nil {
		t.Error("a negative limit was taken")
	}
	if err := h.SetDesired(`{"Limit":3}`); err != nil {
		t.Error(err)
	}
	if status, response := h.Invoke("double", `7`); status != 200 || string(response) != `"77"` {
		t.Errorf("%d %s", status, response)
	}
	h.Eventually(func(s edge.ModuleStatus) bool {
		return s.Healthy && s.Counters["echoed"] == 2 && s.Desired.(*gauge).Limit == 3
	})
}
