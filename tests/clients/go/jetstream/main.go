// Drives JetStream with nats.go: streams, consumers, key-value and object stores, services.
// Each check prints `ok NAME` or `not ok NAME: why`.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// How long a check may take.
const deadline = 20 * time.Second

type check struct {
	name string
	run  func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error
}

func fill(ctx context.Context, js jetstream.JetStream, subject string, count int) error {
	for n := range count {
		if _, err := js.Publish(ctx, subject, []byte(strconv.Itoa(n))); err != nil {
			return err
		}
	}
	return nil
}

// The error must carry this code of the API.
func wantCode(err error, code jetstream.ErrorCode) error {
	var apiError *jetstream.APIError
	if !errors.As(err, &apiError) || apiError.ErrorCode != code {
		return fmt.Errorf("wanted error code %d, got %v", code, err)
	}
	return nil
}

func want[T comparable](what string, wanted, got T) error {
	if wanted != got {
		return fmt.Errorf("%s: wanted %v, got %v", what, wanted, got)
	}
	return nil
}

func until(ctx context.Context, what string, probe func() (bool, error)) error {
	for {
		done, err := probe()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func publishAndExpect(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO1", Subjects: []string{"go1.>"}})
	if err != nil {
		return err
	}
	for n := range 50 {
		ack, err := js.Publish(ctx, fmt.Sprintf("go1.%d", n%3), []byte("x"))
		if err != nil {
			return err
		}
		if err := want("sequence", uint64(n+1), ack.Sequence); err != nil {
			return err
		}
	}
	ack, err := js.Publish(ctx, "go1.d", nil, jetstream.WithMsgID("one"))
	if err != nil || ack.Duplicate {
		return fmt.Errorf("first: %+v %v", ack, err)
	}
	again, err := js.Publish(ctx, "go1.d", nil, jetstream.WithMsgID("one"))
	if err != nil || !again.Duplicate || again.Sequence != ack.Sequence {
		return fmt.Errorf("again: %+v %v", again, err)
	}
	_, err = js.Publish(ctx, "go1.d", nil, jetstream.WithExpectLastSequence(7))
	if err := wantCode(err, 10071); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "go1.d", nil, jetstream.WithExpectLastSequencePerSubject(7))
	if err := wantCode(err, 10071); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "go1.d", nil, jetstream.WithExpectStream("OTHER"))
	if err := wantCode(err, 10060); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "go1nobody", nil)
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("nobody: %v", err)
	}
	return nil
}

func publishAsync(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO2", Subjects: []string{"go2"}})
	if err != nil {
		return err
	}
	var futures []jetstream.PubAckFuture
	for range 1000 {
		future, err := js.PublishAsync("go2", []byte("x"))
		if err != nil {
			return err
		}
		futures = append(futures, future)
	}
	for n, future := range futures {
		select {
		case ack := <-future.Ok():
			if err := want("sequence", uint64(n+1), ack.Sequence); err != nil {
				return err
			}
		case err := <-future.Err():
			return err
		case <-ctx.Done():
			return fmt.Errorf("no ack of message %d", n)
		}
	}
	return nil
}

func manageStreams(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	config := jetstream.StreamConfig{
		Name: "GO3", Subjects: []string{"go3.*"}, AllowDirect: true, MaxMsgsPerSubject: 10,
		Metadata: map[string]string{"team": "x"}, Compression: jetstream.S2Compression,
	}
	stream, err := js.CreateStream(ctx, config)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ctx, js, "go3.a", 12), fill(ctx, js, "go3.b", 3)); err != nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return err
	}
	if err := want("messages of a", 10, info.State.Subjects["go3.a"]); err != nil {
		return err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO3B", Subjects: []string{"go3.a"}})
	if err := wantCode(err, 10065); err != nil {
		return err
	}
	config.MaxMsgs = 5
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return err
	}
	err = until(ctx, "five messages are left", func() (bool, error) {
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs == 5, err
	})
	if err != nil {
		return err
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("go3.b")); err != nil {
		return err
	}
	message, err := stream.GetLastMsgForSubject(ctx, "go3.a")
	if err != nil || string(message.Data) != "11" {
		return fmt.Errorf("last of a: %+v %v", message, err)
	}
	if err := stream.DeleteMsg(ctx, message.Sequence); err != nil {
		return err
	}
	if _, err := stream.GetMsg(ctx, message.Sequence); !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("deleted message: %v", err)
	}
	name, err := js.StreamNameBySubject(ctx, "go3.a")
	if err != nil || name != "GO3" {
		return fmt.Errorf("by subject: %s %v", name, err)
	}
	if err := js.DeleteStream(ctx, "GO3"); err != nil {
		return err
	}
	if _, err := js.Stream(ctx, "GO3"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("deleted stream: %v", err)
	}
	return nil
}

func fetchAndConsume(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO4", Subjects: []string{"go4"}})
	if err != nil {
		return err
	}
	if err := fill(ctx, js, "go4", 300); err != nil {
		return err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "c", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return err
	}
	next := 0
	take := func(message jetstream.Msg) error {
		if err := want("body", strconv.Itoa(next), string(message.Data())); err != nil {
			return err
		}
		next++
		return message.Ack()
	}
	batch, err := consumer.Fetch(100, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		return err
	}
	for message := range batch.Messages() {
		if err := take(message); err != nil {
			return err
		}
	}
	if err := want("fetched", 100, next); err != nil {
		return err
	}
	done := make(chan error, 1)
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		if err := take(message); err != nil || next == 300 {
			done <- err
		}
	}, jetstream.PullMaxMessages(40))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("consumed %d", next)
	}
	if err != nil {
		return err
	}
	return until(ctx, "all acked", func() (bool, error) {
		info, err := consumer.Info(ctx)
		return err == nil && info.NumAckPending == 0 && info.AckFloor.Stream == 300, err
	})
}

func redeliver(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO5", Subjects: []string{"go5"}})
	if err != nil {
		return err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 5,
		BackOff: []time.Duration{200 * time.Millisecond, 300 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	if err := fill(ctx, js, "go5", 1); err != nil {
		return err
	}
	for delivery := uint64(1); delivery <= 4; delivery++ {
		message, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			return err
		}
		meta, err := message.Metadata()
		if err != nil {
			return err
		}
		if err := want("deliveries", delivery, meta.NumDelivered); err != nil {
			return err
		}
		switch delivery {
		case 1:
			err = message.Nak()
		case 2:
			err = message.NakWithDelay(100 * time.Millisecond)
		case 3: // The backoff brings it back.
		case 4:
			err = message.DoubleAck(ctx)
		}
		if err != nil {
			return err
		}
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return err
	}
	return want("floor", uint64(1), info.AckFloor.Stream)
}

func orderedConsumer(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO6", Subjects: []string{"go6"}})
	if err != nil {
		return err
	}
	for range 2000 {
		if _, err := js.PublishAsync("go6", bytes.Repeat([]byte("x"), 500)); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for n := range 2000 {
		message, err := messages.Next(jetstream.NextMaxWait(5 * time.Second))
		if err != nil {
			return err
		}
		meta, err := message.Metadata()
		if err != nil {
			return err
		}
		if err := want("sequence", uint64(n+1), meta.Sequence.Stream); err != nil {
			return err
		}
	}
	return nil
}

func pushConsumer(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO7", Subjects: []string{"go7"}})
	if err != nil {
		return err
	}
	old, err := nc.JetStream()
	if err != nil {
		return err
	}
	sub, err := old.SubscribeSync("go7", nats.Durable("d"), nats.EnableFlowControl(),
		nats.IdleHeartbeat(time.Second))
	if err != nil {
		return err
	}
	for range 500 {
		if _, err := js.PublishAsync("go7", bytes.Repeat([]byte("x"), 10000)); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	for n := range 500 {
		message, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
		if err := message.Ack(); err != nil {
			return err
		}
	}
	return sub.Unsubscribe()
}

func manageConsumers(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO8", Subjects: []string{"go8.>"}})
	if err != nil {
		return err
	}
	config := jetstream.ConsumerConfig{
		Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, FilterSubjects: []string{"go8.a", "go8.b"},
	}
	if _, err := stream.CreateConsumer(ctx, config); err != nil {
		return err
	}
	config.MaxDeliver = 3
	if _, err := stream.CreateConsumer(ctx, config); !errors.Is(err, jetstream.ErrConsumerExists) {
		return fmt.Errorf("create again: %v", err)
	}
	if _, err := stream.UpdateConsumer(ctx, config); err != nil {
		return err
	}
	paused, err := stream.PauseConsumer(ctx, "c", time.Now().Add(time.Hour))
	if err != nil || !paused.Paused {
		return fmt.Errorf("pause: %+v %v", paused, err)
	}
	resumed, err := stream.ResumeConsumer(ctx, "c")
	if err != nil || resumed.Paused {
		return fmt.Errorf("resume: %+v %v", resumed, err)
	}
	var names []string
	for name := range stream.ConsumerNames(ctx).Name() {
		names = append(names, name)
	}
	if err := want("names", "c", strings.Join(names, " ")); err != nil {
		return err
	}
	if err := stream.DeleteConsumer(ctx, "c"); err != nil {
		return err
	}
	if _, err := stream.Consumer(ctx, "c"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("deleted consumer: %v", err)
	}
	return nil
}

func mirrorsAndSources(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO9", Subjects: []string{"go9.>"}})
	if err != nil {
		return err
	}
	origin := &jetstream.StreamSource{Name: "GO9"}
	mirror, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "GO9M", Mirror: origin})
	if err != nil {
		return err
	}
	sourced, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "GO9S", Sources: []*jetstream.StreamSource{{Name: "GO9", FilterSubject: "go9.a"}},
	})
	if err != nil {
		return err
	}
	if err := errors.Join(fill(ctx, js, "go9.a", 10), fill(ctx, js, "go9.b", 10)); err != nil {
		return err
	}
	return until(ctx, "both follow", func() (bool, error) {
		of, err := mirror.Info(ctx)
		if err != nil {
			return false, err
		}
		from, err := sourced.Info(ctx)
		return err == nil && of.State.Msgs == 20 && from.State.Msgs == 10, err
	})
}

func keyValue(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "GOKV", History: 5})
	if err != nil {
		return err
	}
	watcher, err := kv.Watch(ctx, "a", jetstream.UpdatesOnly())
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for n := range uint64(3) {
		revision, err := kv.PutString(ctx, "a", strconv.FormatUint(n, 10))
		if err != nil {
			return err
		}
		if err := want("revision", n+1, revision); err != nil {
			return err
		}
	}
	if _, err := kv.Update(ctx, "a", []byte("x"), 2); err == nil {
		return errors.New("an update of an old revision was taken")
	}
	if _, err := kv.Create(ctx, "a", []byte("x")); !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("create: %v", err)
	}
	entry, err := kv.GetRevision(ctx, "a", 2)
	if err != nil || string(entry.Value()) != "1" {
		return fmt.Errorf("revision 2: %v %v", entry, err)
	}
	history, err := kv.History(ctx, "a")
	if err != nil || len(history) != 3 {
		return fmt.Errorf("history: %v %v", history, err)
	}
	if err := kv.Delete(ctx, "a"); err != nil {
		return err
	}
	if _, err := kv.Get(ctx, "a"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("deleted key: %v", err)
	}
	for n := range uint64(4) {
		select {
		case update := <-watcher.Updates():
			if update == nil || update.Revision() != n+1 {
				return fmt.Errorf("update %d: %v", n, update)
			}
		case <-ctx.Done():
			return fmt.Errorf("no update %d", n)
		}
	}
	if err := kv.Purge(ctx, "a"); err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil || status.Values() != 1 {
		return fmt.Errorf("status: %+v %v", status, err)
	}
	return js.DeleteKeyValue(ctx, "GOKV")
}

func keyValueTTL(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: "GOTTL", LimitMarkerTTL: time.Minute,
	})
	if err != nil {
		return err
	}
	if _, err := kv.Create(ctx, "a", []byte("x"), jetstream.KeyTTL(time.Second)); err != nil {
		return err
	}
	watcher, err := kv.Watch(ctx, "a", jetstream.UpdatesOnly())
	if err != nil {
		return err
	}
	defer watcher.Stop()
	select {
	case update := <-watcher.Updates():
		return want("operation", jetstream.KeyValuePurge, update.Operation())
	case <-ctx.Done():
		return errors.New("the key did not expire")
	}
}

func objectStore(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "GOOBJ"})
	if err != nil {
		return err
	}
	data := make([]byte, 3_000_000)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	if _, err := store.PutBytes(ctx, "big", data); err != nil {
		return err
	}
	got, err := store.GetBytes(ctx, "big")
	if err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes of %d came back: %v", len(got), len(data), err)
	}
	if _, err := store.PutString(ctx, "small", "hello"); err != nil {
		return err
	}
	list, err := store.List(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, info := range list {
		names = append(names, info.Name)
	}
	sort.Strings(names)
	if err := want("names", "big small", strings.Join(names, " ")); err != nil {
		return err
	}
	if err := store.Delete(ctx, "big"); err != nil {
		return err
	}
	if _, err := store.GetBytes(ctx, "big"); !errors.Is(err, jetstream.ErrObjectNotFound) {
		return fmt.Errorf("deleted object: %v", err)
	}
	if err := store.Seal(ctx); err != nil {
		return err
	}
	if _, err := store.PutString(ctx, "more", "x"); err == nil {
		return errors.New("a sealed store took an object")
	}
	return js.DeleteObjectStore(ctx, "GOOBJ")
}

func services(ctx context.Context, nc *nats.Conn, _ jetstream.JetStream) error {
	service, err := micro.AddService(nc, micro.Config{Name: "go-reverse", Version: "1.0.0"})
	if err != nil {
		return err
	}
	defer service.Stop()
	answer := func(request micro.Request) {
		if len(request.Data()) == 0 {
			_ = request.Error("400", "nothing", nil)
			return
		}
		_ = request.Respond(bytes.ToUpper(request.Data()))
	}
	if err := service.AddEndpoint("upper", micro.HandlerFunc(answer)); err != nil {
		return err
	}
	var group sync.WaitGroup
	failures := make(chan error, 10)
	for range 10 {
		group.Go(func() {
			reply, err := nc.RequestWithContext(ctx, "upper", []byte("abc"))
			if err != nil || string(reply.Data) != "ABC" {
				failures <- fmt.Errorf("%v %v", reply, err)
			}
		})
	}
	group.Wait()
	if len(failures) > 0 {
		return <-failures
	}
	reply, err := nc.RequestWithContext(ctx, "upper", nil)
	if err != nil {
		return err
	}
	if err := want("code", "400", reply.Header.Get(micro.ErrorCodeHeader)); err != nil {
		return err
	}
	stats, err := nc.RequestWithContext(ctx, "$SRV.STATS.go-reverse", nil)
	if err != nil || !bytes.Contains(stats.Data, []byte(`"num_errors":1`)) {
		return fmt.Errorf("stats: %s %v", stats.Data, err)
	}
	return nil
}

func run(check check) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return check.run(ctx, nc, js)
}

func main() {
	checks := []check{
		{"publish_and_expect", publishAndExpect},
		{"publish_async", publishAsync},
		{"manage_streams", manageStreams},
		{"fetch_and_consume", fetchAndConsume},
		{"redeliver", redeliver},
		{"ordered_consumer", orderedConsumer},
		{"push_consumer", pushConsumer},
		{"manage_consumers", manageConsumers},
		{"mirrors_and_sources", mirrorsAndSources},
		{"key_value", keyValue},
		{"key_value_ttl", keyValueTTL},
		{"object_store", objectStore},
		{"services", services},
	}
	failed := 0
	for _, check := range checks {
		if err := run(check); err != nil {
			failed++
			fmt.Printf("not ok %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok %s\n", check.name)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
