package channel_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"sluice/consumers/stream"
	"sluice/producers/channel"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// A channel publishes a payment. Publish returns when the payment is safe; a mistake in the event is answered at once,
// with the field and the remedy, and nothing is sent.
func Example() {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, "payments", "loans", "behaviors"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kafka.Close()

	publisher, err := channel.New(channel.Config{
		Config: stream.Config{Brokers: kafka.ListenAddrs()},
		Source: "bank-app",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer publisher.Close()

	payment := events.Event{
		ID:         "order-1001-initiated", // your own, unique and stable: publishing it again has no effect
		Kind:       events.PaymentInitiated,
		Time:       time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		CustomerID: "C42",
		PaymentID:  "order-1001",
		MerchantID: "M7", MerchantMCC: "5814",
		Method:   eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET,
		Purpose:  eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE,
		Amount:   12_50, // minor units: 12.50
		Currency: events.MustCurrency("CNY"),
	}
	fmt.Println("published:", publisher.Publish(context.Background(), &payment))

	payment.CardToken = "4111 1111 1111 1111"
	err = publisher.Publish(context.Background(), &payment)
	var rejection *events.Rejection
	fmt.Println("refused:", errors.As(err, &rejection), rejection)
	// Output:
	// published: <nil>
	// refused: true card_number: card_token: it is a full card number; send a token that stands for the card
}

// For many events, publish without waiting for each and flush at the end; what failed is told one by one.
func ExamplePublisher_PublishAsync() {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, "payments", "loans", "behaviors"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kafka.Close()
	publisher, err := channel.New(channel.Config{Config: stream.Config{Brokers: kafka.ListenAddrs()}, Source: "bank-app"})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	failed := make(chan error, 1000)
	for i := range 1000 {
		signIn := events.Event{
			ID: fmt.Sprintf("sign-in-%d", i), Kind: events.BehaviorSignedIn, Time: time.Now(),
			CustomerID: fmt.Sprintf("C%d", i%100), DeviceID: "D1", IP: "192.0.2.1",
		}
		err := publisher.PublishAsync(ctx, &signIn, func(err error) {
			if err != nil {
				failed <- err
			}
		})
		if err != nil { // refused or ctx ended: nothing was sent
			fmt.Println(err)
		}
	}
	fmt.Println(publisher.Flush(ctx), publisher.Close(), len(failed), "failed")
	// Output:
	// <nil> <nil> 0 failed
}
