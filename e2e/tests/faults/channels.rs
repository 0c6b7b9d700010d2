//! RabbitMQ closes channels with 406 PRECONDITION_FAILED, as it does for a program that breaks the protocol.

use hookline_e2e::{Deployment, Half, Load, Part, send_all};

use crate::brokers::connected;
use crate::{Fault, full, seed, shared_node};

/// An acknowledgement of what was never handed out.
pub(crate) const UNKNOWN_TAG: &str = "{'basic.ack', 999999999, false}";
/// A declaration of a queue that has other arguments.
const OTHER_ARGUMENTS: &str = "{'queue.declare', 0, <<\"hookline.unrouted\">>, false, true, false, false, false, []}";

/// Lets RabbitMQ take this for something that each of these channels' clients sent. Returns how many it closed.
pub(crate) async fn sent_on(all_in_one: &Deployment<'_>, channels: &str, method: &str) -> usize {
    let send = format!(
        "Of = fun(P) -> try rabbit_channel:info(P, [vhost, consumer_count, confirm]) catch _:_ -> [] end end, \
         Ours = [P || P <- rabbit_channel:list(), [{{_, <<\"{}\">>}}, {{_, Consumers}}, {{_, Confirms}}] <- [Of(P)], \
         {channels}], Close = fun(P) -> M = monitor(process, P), gen_server2:cast(P, {{method, {method}, none, noflow}}), \
         receive {{'DOWN', M, _, _, _}} -> 1 after 5000 -> 0 end end, lists:sum([Close(P) || P <- Ours]).",
        all_in_one.vhost
    );
    all_in_one.ctl(&["eval", &send]).await.trim().parse().expect("a count")
}

async fn reconnects(part: &Part) -> f64 {
    part.metric("hookline_broker_reconnects_total").await
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_a_channel_that_is_closed_with_406_is_made_anew_and_nothing_is_lost() {
    let rounds = full(3, 10);
    let fault =
        Fault::new("F14", "channels closed with 406: unknown tag, other arguments (quick 3, full 10 times each)");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), full(200, 1000), full(20, 100), &all_in_one.sandbox);
    let parts = load.parts(2 * rounds);
    connected(&all_in_one).await;
    let (ingest, worker) = (all_in_one.part(Half::Ingest, 0), all_in_one.part(Half::Worker, 0));
    let before = (reconnects(ingest).await, reconnects(worker).await);

    for part in &parts[..rounds] {
        let (closed, ()) =
            tokio::join!(sent_on(&all_in_one, "Consumers > 0", UNKNOWN_TAG), send_all(&all_in_one.sender, part));
        assert!(closed > 0, "the worker consumes");
        // Each handler consumes again before the next round.
        all_in_one.settled().await;
    }
    let by_consumers = (reconnects(ingest).await, reconnects(worker).await);
    let mut closed = 0;
    for part in &parts[rounds..] {
        let (published, ()) =
            tokio::join!(sent_on(&all_in_one, "Confirms", OTHER_ARGUMENTS), send_all(&all_in_one.sender, part));
        closed += published;
        connected(&all_in_one).await;
    }
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(by_consumers, before, "a consumer's connection stays, with all of its other channels");
    assert!(closed > 0, "channels publish");
    let by_publishers = reconnects(ingest).await + reconnects(worker).await - before.0 - before.1;
    assert!(by_publishers as usize <= closed, "{by_publishers} connections made anew for {closed} channels: no loop");
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}
