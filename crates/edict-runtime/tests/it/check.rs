//! Source that is looked at, never run.

use edict_runtime::{ClassInfo, SourceFault};

use crate::support::{Bed, WELL_BEHAVED};

#[tokio::test(flavor = "multi_thread")]
async fn sources() {
    let bed = Bed::new().await;
    let check = async |source: &str| bed.runtime.check_source(source).await;
    let own = |has_management| Ok(ClassInfo { has_management, inherits: false });
    let open = Ok(ClassInfo { has_management: false, inherits: true });
    assert_eq!(check(WELL_BEHAVED).await, own(false));
    let managed = format!("{WELL_BEHAVED}    def management(self, action, data): pass\n");
    assert_eq!(check(&managed).await, own(true));
    assert_eq!(
        check("if True:\n  class AIOSv1PolicyRule:\n    def eval(self, p, i, c): pass").await,
        own(false)
    );
    assert_eq!(check("class AIOSv1PolicyRule(Base): pass").await, open);
    assert_eq!(check("from base import AIOSv1PolicyRule").await, open);
    assert_eq!(check("from base import Rule as AIOSv1PolicyRule").await, open);
    assert_eq!(check("AIOSv1PolicyRule = make()").await, open);
    assert_eq!(check("from base import *").await, open);
    assert_eq!(check("class Other: pass").await, Err(SourceFault::ClassMissing));
    assert_eq!(check("def f():\n  class AIOSv1PolicyRule: pass").await, Err(SourceFault::ClassMissing));
    assert_eq!(check("class AIOSv1PolicyRule: pass").await, Err(SourceFault::EvalMissing));
    let Err(SourceFault::Syntax { line, column, text, .. }) = check("x = 1\ny = = 2\n").await else {
        panic!("no syntax error")
    };
    assert_eq!((line, column, text.as_deref()), (Some(2), Some(5), Some("y = = 2")));
    assert!(check(&"(".repeat(100_000)).await.is_err());
    assert!(check(&format!("x = {}1", "-".repeat(200_000))).await.is_err());
    assert!(check("x = '\0'").await.is_err());
    assert_eq!(check("import os; os._exit(1)").await, Err(SourceFault::ClassMissing));
    assert_eq!(check(WELL_BEHAVED).await, own(false));
    bed.close().await;
}
