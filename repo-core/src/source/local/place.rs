//! Where in the file system a directory is, kept so that its path is only put together when somebody wants it.

use std::sync::Arc;

/// A directory as a name in its parent. Holds no descriptor, so that it may outlive the directory.
pub(super) struct Place {
    parent: Option<Arc<Self>>,
    /// The name in the parent; without a parent the absolute path.
    name: Box<[u8]>,
}

impl Place {
    /// A place to start from.
    pub(super) fn absolute(path: &[u8]) -> Arc<Self> {
        Arc::new(Self { parent: None, name: path.into() })
    }

    /// A directory in this one.
    pub(super) fn child(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self { parent: Some(Arc::clone(self)), name: name.into() })
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = vec![&self.name];
        let mut place = self;
        while let Some(parent) = &place.parent {
            place = parent;
            names.push(&place.name);
        }
        let mut path = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.into_iter().rev() {
            if !path.is_empty() && path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// The absolute path of an entry in it.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }
}

/// One after the other, since thousands of nested drops would be too much for the stack.
impl Drop for Place {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let root = Place::absolute(b"/");
        assert_eq!(root.path(), b"/");
        assert_eq!(root.path_of(b"x"), b"/x");
        assert_eq!(root.child(b"x").child(b"y").path_of(b"z"), b"/x/y/z");
        assert_eq!(Place::absolute(b"/srv").child(b"x").path(), b"/srv/x");
    }

    #[test]
    fn depth_is_no_danger_to_the_stack() {
        let mut place = Place::absolute(b"/");
        for _ in 0..1_000_000 {
            place = place.child(b"d");
        }
        drop(place);
    }
}
