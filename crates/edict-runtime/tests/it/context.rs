//! A policy's context: the mapping, and what several runs do with it at once.

use edict_runtime::Fault;
use serde_json::json;

use crate::support::{Bed, eval, policy_of};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_a_mapping() {
    let bed = Bed::new().await;
    let body = "
c = context
c['a'] = {'x': [1]}
c.set('b', 2, ttl=60)
c.update({'d': 4}, e=5)
out = [c['a'], c.get('b'), c.get('none', 7), 'a' in c, 'z' in c, len(c), sorted(c), sorted(c.keys())]
out += [c.setdefault('f', 6), c.setdefault('a', 0), c.pop('d'), c.pop('d', 'gone'), c.incr('n'), c.incr('n', 5)]
del c['e']
out += [sorted(c.items(), key=str), dict(c) == dict(c.items()), bool(c)]
try: c['nothing']
except KeyError as error: out.append(str(error))
try: c[1] = 2
except TypeError as error: out.append(str(error))
try: c.incr('a')
except RuntimeError as error: out.append(str(error))
c.clear()
out.append(list(c.values()))
return out";
    let policy = bed.policy("mapping", &policy_of(body));
    let given = bed.value(&policy, json!(0)).await;
    assert_eq!(
        given,
        json!([
            {"x": [1]}, 2, 7, true, false, 4, ["a", "b", "d", "e"], ["a", "b", "d", "e"],
            6, {"x": [1]}, 4, "gone", 1, 6,
            [["a", {"x": [1]}], ["b", 2], ["f", 6], ["n", 6]], true, true,
            "'nothing'", "context keys must be strings, not int", "context: `a` is not a number", []
        ])
    );
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_runs_and_belongs_to_one_policy() {
    let bed = Bed::new().await;
    let source = policy_of("return context.incr('runs')");
    let (one, two) = (bed.policy("one", &source), bed.policy("two", &source));
    assert_eq!(bed.value(&one, json!(0)).await, 1);
    assert_eq!(bed.value(&one, json!(0)).await, 2);
    assert_eq!(bed.value(&two, json!(0)).await, 1);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_of_parallel_runs_all_count() {
    let bed = Bed::new().await;
    let policy = bed.policy("counter", &policy_of("for _ in range(20): context.incr('n')"));
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (runtime, policy) = (bed.runtime.clone(), policy.clone());
        tasks.push(tokio::spawn(async move { runtime.run(&policy, eval(json!(0))).await.map(drop) }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(bed.host.contexts.lock().unwrap()["counter:1.0-stable"]["n"], 400);
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_not_json_is_the_policys_error() {
    let bed = Bed::new().await;
    let policy = bed.policy("bad", &policy_of("context['x'] = {'a': {1}}"));
    let fault = bed.fault(&policy, json!(0)).await;
    assert!(matches!(fault, Fault::Failed { .. } | Fault::OutputNotJson { .. }), "{fault:?}");
    bed.close().await;
}
